"""Cuts inputs with shared prefixes into segments, so that each prefix is run once.

All questions of a subject start with the same few-shot examples, and all answers to a question
start with the question. Cut where they diverge, inputs form a radix tree of token ids:

    examples ─┬─ question 1 ─┬─ answer A
              │              └─ answer B
              └─ question 2 ─── …

Segments run one after another in a single row of tokens, without padding between them. A token
attends to earlier tokens of its own segment and to all tokens of the segments above it, anywhere
in the row; those of an earlier row come from its key/value cache. Sharing is decided by token ids
alone, so nothing is assumed about tokenization.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import NamedTuple

LEVEL_COST = 0.05
"""What each segment above its own adds to the cost of running a token: about 5%, for attention."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive tokens that several inputs share, as a node of the tree.

    Segments are compared by identity.

    Attributes:
        tokens: token ids, at least one.
        start: position of the first of them in the inputs.
        parent: the segment before it, which ends at ``start``; None at the beginning of inputs.
        members: indices of the inputs that contain it.
        ends: indices of the inputs that end with it.
    """

    tokens: Sequence[int]
    start: int
    parent: Segment | None
    members: Sequence[int]
    ends: Sequence[int] = ()

    @property
    def stop(self) -> int:
        """Position in the inputs after its last token."""
        return self.start + len(self.tokens)

    @cached_property
    def above(self) -> list[Segment]:
        """Its ancestors: the segments before it in its inputs, first to last."""
        return [] if self.parent is None else [*self.parent.above, self.parent]

    @property
    def tokens_from_start(self) -> list[int]:
        """Its inputs' tokens up to its last."""
        return [token for one in (*self.above, self) for token in one.tokens]


@dataclass(frozen=True, eq=False)
class Row:
    """Segments that are run together, one after another in a single row of tokens.

    Every ancestor of a segment is in ``segments`` or in ``before``.

    Attributes:
        segments: the segments to run, parents before their children.
        before: segments of earlier rows whose keys and values are in the cache, in its order.
        after: the segments of both whose keys and values the next row needs.
    """

    segments: Sequence[Segment]
    before: Sequence[Segment] = ()
    after: Sequence[Segment] = ()

    @property
    def tokens(self) -> list[int]:
        """The token ids to run."""
        return [token for segment in self.segments for token in segment.tokens]

    @property
    def starts(self) -> list[int]:
        """Index of each segment's first token in ``tokens``."""
        return [0, *accumulate(len(segment.tokens) for segment in self.segments)][:-1]

    def at(self, place: int) -> Segment:
        """The segment that a token belongs to.

        Args:
            place: the token's index in ``tokens``.
        """
        return self.segments[bisect_right(self.starts, place) - 1]


def segments_of(inputs: Sequence[Sequence[int]]) -> list[Segment]:
    """The inputs as segments, depth first: each is followed by its descendants.

        [list(one.tokens) for one in segments_of([[1, 2, 3], [1, 2, 4]])]  # [[1, 2], [3], [4]]

    A shared prefix becomes a segment if running it once saves clearly more than the extra level
    costs (`LEVEL_COST`).

    Args:
        inputs: token ids, each input with at least one.

    Returns:
        The segments. The path from the root to the segment in whose ``ends`` an input is gives the
        input's tokens.
    """
    segments: list[Segment] = []
    by_tokens = sorted(range(len(inputs)), key=lambda row: list(inputs[row]))
    stack: list[_Branch] = [_Branch(by_tokens)]
    while stack:
        members, parent = stack.pop()
        start = 0 if parent is None else parent.stop
        # Members are sorted, so all of them share what the first and the last share.
        first = inputs[members[0]]
        shared = _common_prefix_length(first, inputs[members[-1]])
        total = sum(len(inputs[row]) - start for row in members)
        all_equal = shared == len(inputs[members[-1]])
        if all_equal or (len(members) - 1) * (shared - start) > LEVEL_COST * total:
            ends = [row for row in members if len(inputs[row]) == shared]
            parent = Segment(first[start:shared], start, parent, members, ends)
            segments.append(parent)
            members = members[len(ends) :]  # sorted, so the shortest come first
        parts = groupby(members, key=lambda row: list(inputs[row][shared : shared + 1]))
        stack += reversed([_Branch(list(rows), parent) for _, rows in parts])
    return segments


def rows_of(segments: Sequence[Segment], size: Callable[[Segment], float]) -> Iterator[Row]:
    """Pack segments into rows, in order.

    From one row to the next, only the ancestors of the next row's first segment are kept: later
    segments continue from those or from segments of their own row.

    Args:
        segments: from `segments_of`, in its order.
        size: returns the fraction of a row that a segment takes. A segment of more than 1 gets a
            row of its own.

    Yields:
        The rows, in the order in which they must be run.
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


class _Branch(NamedTuple):
    """Inputs, sorted by their tokens, that share all segments down to ``parent``."""

    members: list[int]
    parent: Segment | None = None


def _common_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
