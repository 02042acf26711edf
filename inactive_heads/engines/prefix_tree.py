"""Inputs that begin alike, cut into segments so that what they share is run once.

The few-shot examples of a subject open each of its questions, and a question opens each of its
answers. Cut where inputs part, they form a tree (a radix tree of token ids):

    examples ─┬─ question 1 ─┬─ answer A
              │              └─ answer B
              └─ question 2 ─── …

Segments run one after another in a single row of tokens, with no padding between them. A token
attends to its own segment and to the segments above it, wherever they stand in the row; those
of an earlier row come from its key/value cache. Which inputs share what is decided by token ids
alone: nothing is assumed about how texts are tokenized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import NamedTuple

LEVEL_COST = 0.05
"""What each segment above its own adds to running a token: about a twentieth, for attention."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive tokens that the inputs ``members`` have alike, after those of ``parent``.

    Attributes:
        tokens: token ids, at least one.
        start: position of the first of them in the inputs.
        parent: what stands before it; None where it opens the inputs.
        members: which inputs run through it.
        ends: which of them end with it.
    """

    tokens: Sequence[int]
    start: int
    parent: Segment | None
    members: Sequence[int]
    ends: Sequence[int] = ()

    @property
    def stop(self) -> int:
        """Position after its last token."""
        return self.start + len(self.tokens)

    @cached_property
    def above(self) -> list[Segment]:
        """The segments before it in its inputs, from the first on."""
        return [] if self.parent is None else [*self.parent.above, self.parent]


@dataclass(frozen=True, eq=False)
class Row:
    """Segments that are run together, one after another.

    Attributes:
        segments: parents before their children.
        before: segments of earlier rows that these go on from, as the row before kept them.
        after: which of all these the next row goes on from.
    """

    segments: Sequence[Segment]
    before: Sequence[Segment] = ()
    after: Sequence[Segment] = ()

    @property
    def tokens(self) -> list[int]:
        """The tokens to run."""
        return [token for segment in self.segments for token in segment.tokens]

    @property
    def starts(self) -> list[int]:
        """Where each segment begins among them."""
        return [0, *accumulate(len(segment.tokens) for segment in self.segments)][:-1]


def segments_of(inputs: Sequence[Sequence[int]]) -> list[Segment]:
    """The inputs (token ids) as segments, each followed by all that go on from it.

    A shared beginning becomes a segment where not running it again saves clearly more than the
    level costs (`LEVEL_COST`).
    """
    found: list[Segment] = []
    waiting: list[_Alike] = [_Alike(sorted(range(len(inputs)), key=lambda row: list(inputs[row])))]
    while waiting:
        members, parent = waiting.pop()
        start = 0 if parent is None else parent.stop
        # Sorted, so what the first and the last have in common, all have.
        one = inputs[members[0]]
        shared = _common(one, inputs[members[-1]])
        total = sum(len(inputs[row]) - start for row in members)
        all_equal = shared == len(inputs[members[-1]])
        if all_equal or (len(members) - 1) * (shared - start) > LEVEL_COST * total:
            ends = [row for row in members if len(inputs[row]) == shared]
            parent = Segment(one[start:shared], start, parent, members, ends)
            found.append(parent)
            members = members[len(ends) :]  # sorted, so the shortest come first
        parts = groupby(members, key=lambda row: list(inputs[row][shared : shared + 1]))
        waiting += reversed([_Alike(list(rows), parent) for _, rows in parts])
    return found


def rows_of(segments: Sequence[Segment], size: Callable[[Segment], float]) -> Iterator[Row]:
    """The segments in rows that they fill, by the share of a row that each takes.

    One that takes more than a row has a row of its own. What has to be kept from one row to the
    next is what stands above the next row's first segment: all later ones go on from that, or
    from their own row.
    """
    before: Sequence[Segment] = ()
    start = 0
    while start < len(segments):
        stop, filled = start + 1, size(segments[start])
        while stop < len(segments) and (filled := filled + size(segments[stop])) <= 1:
            stop += 1
        after = segments[stop].above if stop < len(segments) else ()
        yield Row(segments[start:stop], before, after)
        before, start = after, stop


class _Alike(NamedTuple):
    """Inputs, sorted, that run through the same segments up to ``parent``."""

    members: list[int]
    parent: Segment | None = None


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two inputs have in common from the first on."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
