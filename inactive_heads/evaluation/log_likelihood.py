"""Log-probabilities of given tokens after given positions of the inputs that hold them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inactive_heads.ablation.recorder import layer_silences
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import Logits, TokenMask
from inactive_heads.engines.base import LayerSilences, SharingEngine, Visitor
from inactive_heads.engines.prefix_tree import Segment, rows_of, segments_of
from inactive_heads.errors import Notice
from inactive_heads.models.batching import fits_in_memory, run_in_batches, tokens_at_once
from inactive_heads.models.model import Model
from inactive_heads.progress import Advance
from inactive_heads.tasks.base import ScoredInput

MAX_LOGITS = 2**26
"""Logits of one batch held at once (256 MiB in float32)."""

WORTH_SHARING = 0.9
"""The share of tokens left to run below which inputs that begin alike are run by segments."""


Measured = Callable[[list[int], list[int]], Tensor]
"""Gives a number (or several, as rows) for each of some kept tokens and the targets after them."""

Measure = Callable[[Logits], Measured]
"""What is read of the logits at kept tokens."""


def targets(logits: Logits) -> Measured:
    """The log-probabilities of the targets, in nats: ``(target,)``."""
    log_total = torch.logsumexp(logits, dim=-1)
    return lambda at, targets: logits[at, targets] - log_total[at]


def targets_and_best(logits: Logits) -> Measured:
    """The same, and below it those of the likeliest tokens: ``(2, target)``.

    Both rows are equal where greedy decoding gives the target.
    """
    log_total, best = torch.logsumexp(logits, dim=-1), logits.amax(dim=-1)
    return lambda at, targets: torch.stack([logits[at, targets], best[at]]) - log_total[at]


def log_likelihoods(
    model: Model,
    inputs: Sequence[ScoredInput],
    visitor: Visitor | None = None,
    *,
    advance: Advance,
    batch_size: int | str = "auto",
    measure: Measure = targets,
) -> list[np.ndarray]:
    """For every input the log-probabilities of its targets.

    If no visitor needs activations (there is none, or it silences a fixed set), prefixes that inputs
    share are run once, provided that the engine can and that it saves much.

    Args:
        model: the model.
        inputs: what to run, and what to read.
        visitor: is shown the heads, and may silence some.
        advance: is told how many tokens were run since the last call.
        batch_size: inputs run together, or "auto".
        measure: what is read: `targets`, or `targets_and_best`.

    Returns:
        One float32 array per input, in nats: ``(target,)``, or as ``measure`` says.

    Raises:
        UserError: an input does not fit in memory by itself.
    """
    found: dict[int, np.ndarray] = {}

    def read(run: _Run) -> None:
        measured = measure(run.logits)
        among_kept = (run.keep.flatten().cumsum(0) - 1).numpy()
        for row, which, places in run.reads:
            wanted = [inputs[row].targets[k] for k in which]
            values = measured(among_kept[list(places)].tolist(), wanted).cpu().numpy()
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


class _Read(NamedTuple):
    """Which of an input's targets are read, and at which places of the flattened tokens."""

    row: int
    which: Sequence[int]
    places: Sequence[int]


class _Run(NamedTuple):
    """Logits at the kept tokens, what is read of them, and how many tokens of inputs are done."""

    keep: TokenMask
    reads: Sequence[_Read]
    logits: Logits
    n_tokens: int


def _whole_runs(
    model: Model,
    inputs: Sequence[ScoredInput],
    visitor: Visitor | None,
    batch_size: int | str,
    read: Callable[[_Run], None],
) -> None:
    """Every input from its first token to its last, in batches of similar length."""
    tokens = [one.tokens for one in inputs]
    read_share = sum(len(set(one.positions)) for one in inputs) / sum(map(len, tokens))
    most_tokens = int(MAX_LOGITS / (model.shape.d_vocab * read_share))

    def run(batch: TokenBatch) -> None:
        width = batch.mask.shape[1]
        reads = []
        for index, row in enumerate(batch.rows):
            places = [index * width + position for position in inputs[row].positions]
            reads.append(_Read(row, range(len(places)), places))
        keep = _kept(reads, len(batch.rows), width)
        logits = model.engine.run(batch, visitor, keep)
        read(_Run(keep, reads, logits, sum(len(tokens[row]) for row in batch.rows)))

    run_in_batches(model, tokens, run, batch_size=batch_size, most_tokens=most_tokens)


def _shared_runs(
    model: Model, inputs: Sequence[ScoredInput], visitor: Visitor | None, batch_size: int | str
) -> Iterator[_Run] | None:
    """What inputs have alike run once; None where that cannot be, or saves little."""
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
) -> Iterator[_Run]:
    """The segments, in rows of at most so many tokens, of which at most so many are read."""
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
        logits, cache = engine.run_row(row, keep, silences, cache)
        done = (len(inputs[at].tokens) for segment in row.segments for at in segment.ends)
        yield _Run(keep, here, logits, sum(done))


def _reads_in(segment: Segment, inputs: Sequence[ScoredInput]) -> Iterator[_Read]:
    """What is read in a segment, at places counted from its first token."""
    for row in segment.members:
        positions = enumerate(inputs[row].positions)
        inside = [
            (k, at - segment.start) for k, at in positions if segment.start <= at < segment.stop
        ]
        if inside:
            which, places = zip(*inside, strict=True)
            yield _Read(row, which, places)


def _kept(reads: Sequence[_Read], n_rows: int, width: int) -> TokenMask:
    """True at every place that is read."""
    keep = torch.zeros(n_rows * width, dtype=torch.bool)
    keep[[place for read in reads for place in read.places]] = True
    return keep.view(n_rows, width)
