"""Log-probabilities of target tokens at given positions of inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inactive_heads.ablation.recorder import layer_silences
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.settings import default_settings
from inactive_heads.core.tensor_types import FinalStates, Logits, TokenMask
from inactive_heads.engines.base import (
    Engine,
    LayerSilences,
    SharingEngine,
    UnembeddingEngine,
    Visitor,
)
from inactive_heads.engines.prefix_tree import Segment, rows_of, segments_of
from inactive_heads.errors import NotFinite, Notice
from inactive_heads.models.batching import fits_in_memory, run_in_batches, tokens_at_once
from inactive_heads.models.model import Model
from inactive_heads.progress import Advance
from inactive_heads.tasks.base import ScoredInput

MAX_LOGITS = 2**26
"""The most logits of one batch to hold at once (256 MiB in float32)."""

WORTH_SHARING = 0.9
"""Shared prefixes are run once if at most this share of the tokens is then left to run."""

Measured = Callable[[list[int], list[int]], Tensor]
"""Reads numbers, ``(target,)`` or ``(row, target)``, for targets after some of the kept tokens."""


class Read(NamedTuple):
    """The indices of an input's targets to read, and their places in a batch's flattened tokens."""

    row: int
    which: Sequence[int]
    places: Sequence[int]


@dataclass(frozen=True, eq=False)
class Run:
    """A run of the model: its logits at the kept tokens, and what to read from them.

    Attributes:
        keep: ``(batch, pos)``, true at the kept tokens.
        reads: which targets of which inputs are read there.
        logits: ``(kept, vocab)``, the logits after the kept tokens.
        n_tokens: the number of tokens of the inputs that are complete with this run.
        states: ``(kept, d_model)``, the final hidden states; None if the engine does not show them.
        unablated: runs the same batch with no head silenced, and returns its logits; None where
            prefixes are shared.
    """

    keep: TokenMask
    reads: Sequence[Read]
    logits: Logits
    n_tokens: int
    states: FinalStates | None
    unablated: Callable[[], Logits] | None = None

    @cached_property
    def _among_kept(self) -> np.ndarray:
        return (self.keep.flatten().cumsum(0) - 1).numpy()

    def kept_at(self, read: Read) -> list[int]:
        """The indices of the kept tokens that a read is about.

        Args:
            read: one of ``reads``.
        """
        return self._among_kept[list(read.places)].tolist()


Measure = Callable[[Run], Measured]
"""Prepares the reading of numbers from the logits of a run."""


def targets(run: Run) -> Measured:
    """Reads the log-probabilities of targets.

    Args:
        run: a run of the model.

    Returns:
        A function from indices of kept tokens, and the target after each, to the targets'
        log-probabilities ``(target,)``, in nats.
    """
    logits = run.logits
    log_total = torch.logsumexp(logits, dim=-1)
    return lambda at, targets: logits[at, targets] - log_total[at]


def targets_and_best(run: Run) -> Measured:
    """Reads the log-probabilities of targets and of the most probable tokens in their places.

    Args:
        run: a run of the model.

    Returns:
        A function from indices of kept tokens, and the target after each, to log-probabilities
        ``(2, target)``, in nats: first the targets', then the most probable tokens'. They are equal
        where greedy decoding gives the target.
    """
    logits = run.logits
    log_total, best = torch.logsumexp(logits, dim=-1), logits.amax(dim=-1)
    return lambda at, targets: torch.stack([logits[at, targets], best[at]]) - log_total[at]


@default_settings()
def log_likelihoods(
    model: Model,
    inputs: Sequence[ScoredInput],
    visitor: Visitor | None = None,
    *,
    advance: Advance,
    batch_size: int | str = "auto",
    measure: Measure = targets,
) -> list[np.ndarray]:
    """The log-probabilities of every input's targets.

    If no visitor needs activations (there is none, or it silences a fixed set), shared prefixes run
    once, provided that the engine can do so and that it saves enough.

    Args:
        model: the model.
        inputs: the inputs to run, with the targets to read.
        visitor: sees the heads and may silence some; None for the unablated model.
        advance: called with the number of tokens run since the last call.
        batch_size: inputs per batch, or "auto".
        measure: `targets`, `targets_and_best`, or a measure of `Unablated`.

    Returns:
        One float32 array per input, ``(target,)`` for `targets`, in nats, or what another measure
        reads, such as ``(2, target)`` for `targets_and_best`.

    Raises:
        UserError: the batch size is invalid, an input does not fit in memory, or a log-probability
            is not finite.
    """
    found: dict[int, np.ndarray] = {}

    def read(run: Run) -> None:
        measured = measure(run)
        for one in run.reads:
            row, which = one.row, one.which
            wanted = [inputs[row].targets[k] for k in which]
            values = measured(run.kept_at(one), wanted).cpu().numpy()
            _check(row, wanted, values)
            if row not in found:
                size = (*values.shape[:-1], len(inputs[row].targets))
                found[row] = np.empty(size, dtype=np.float32)
            found[row][..., list(which)] = values
        advance(run.n_tokens)

    def read_shared() -> None:
        for run in shared or ():
            read(run)

    if (shared := _shared_runs(model, inputs, visitor, batch_size)) is None:
        _whole_runs(model, inputs, visitor, batch_size, read)
    elif not fits_in_memory(read_shared):
        warnings.warn(
            "what inputs begin with alike does not fit in the memory of "
            f"{model.engine.device} together; going on with every input whole",
            Notice,
            stacklevel=2,
        )
        _whole_runs(model, inputs, visitor, batch_size, read)
    return [found[row] for row in range(len(inputs))]


def _check(row: int, wanted: Sequence[int], values: np.ndarray) -> None:
    """Refuses log-probabilities that are not finite."""
    if np.isfinite(values).all():
        return
    at = tuple(np.argwhere(~np.isfinite(values))[0])
    raise NotFinite(
        row,
        f"the log-probability of token {wanted[at[-1]]} is {values[at]}",
        "the model gives that token no probability: it masks the token, or weights are damaged",
    )


def _whole_runs(
    model: Model,
    inputs: Sequence[ScoredInput],
    visitor: Visitor | None,
    batch_size: int | str,
    read: Callable[[Run], None],
) -> None:
    """Run every input whole, in batches of similar length."""
    tokens = [one.tokens for one in inputs]
    read_share = sum(len(set(one.positions)) for one in inputs) / sum(map(len, tokens))
    most_tokens = int(MAX_LOGITS / (model.shape.d_vocab * read_share))

    def run(batch: TokenBatch) -> None:
        width = batch.mask.shape[1]
        reads = []
        for index, row in enumerate(batch.rows):
            places = [index * width + position for position in inputs[row].positions]
            reads.append(Read(row, range(len(places)), places))
        keep = _kept(reads, len(batch.rows), width)
        with _states(model.engine) as states:
            logits = model.engine.run(batch, visitor, keep)
        n_tokens = sum(len(tokens[row]) for row in batch.rows)
        alone = partial(model.engine.run, batch, None, keep)
        read(Run(keep, reads, logits, n_tokens, next(reversed(states), None), alone))

    run_in_batches(model, tokens, run, batch_size=batch_size, most_tokens=most_tokens)


def _shared_runs(
    model: Model, inputs: Sequence[ScoredInput], visitor: Visitor | None, batch_size: int | str
) -> Iterator[Run] | None:
    """Runs in which shared prefixes run once; None if that is impossible or saves too little."""
    if (silences := layer_silences(visitor)) is None:
        return None
    tokens = [one.tokens for one in inputs]
    segments = segments_of(tokens)
    left = sum(len(segment.tokens) for segment in segments)
    if left > WORTH_SHARING * sum(map(len, tokens)):
        return None
    engine = model.engine
    if not isinstance(engine, SharingEngine) or not engine.shares_prefixes():
        return None
    most_tokens = tokens_at_once(model, max(map(len, tokens)), batch_size)
    most_read = max(1, MAX_LOGITS // model.shape.d_vocab)
    return _segment_runs(engine, silences, inputs, segments, most_tokens, most_read)


def _segment_runs(
    engine: SharingEngine,
    silences: LayerSilences,
    inputs: Sequence[ScoredInput],
    segments: Sequence[Segment],
    most_tokens: int,
    most_read: int,
) -> Iterator[Run]:
    """Runs of segments, in rows with limits on the tokens they hold and on those that are read."""
    reads = {segment: list(_reads_in(segment, inputs)) for segment in segments}

    def size(segment: Segment) -> float:
        read = {place for one in reads[segment] for place in one.places}
        return max(len(segment.tokens) / most_tokens, len(read) / most_read)

    cache = None
    for row in rows_of(segments, size):
        here = [
            one._replace(places=[start + place for place in one.places])
            for segment, start in zip(row.segments, row.starts, strict=True)
            for one in reads[segment]
        ]
        keep = _kept(here, 1, len(row.tokens))
        with _states(engine) as states:
            logits, cache = engine.run_row(row, keep, silences, cache)
        done = (len(inputs[at].tokens) for segment in row.segments for at in segment.ends)
        yield Run(keep, here, logits, sum(done), next(reversed(states), None))


def _reads_in(segment: Segment, inputs: Sequence[ScoredInput]) -> Iterator[Read]:
    """What to read in a segment, at places counted from its first token."""
    for row in segment.members:
        positions = enumerate(inputs[row].positions)
        inside = [
            (k, at - segment.start) for k, at in positions if segment.start <= at < segment.stop
        ]
        if inside:
            which, places = zip(*inside, strict=True)
            yield Read(row, which, places)


def _states(engine: Engine) -> AbstractContextManager[list[FinalStates]]:
    """A context in which final hidden states are kept, if the engine shows them."""
    return engine.final_states() if isinstance(engine, UnembeddingEngine) else nullcontext([])


def _kept(reads: Sequence[Read], n_rows: int, width: int) -> TokenMask:
    """A mask of tokens, true at every place that is read."""
    keep = torch.zeros(n_rows * width, dtype=torch.bool)
    keep[[place for read in reads for place in read.places]] = True
    return keep.view(n_rows, width)
