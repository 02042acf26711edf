"""From a user's samples to batches: encoded, checked against the context, sorted by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inactive_heads.errors import UserError
from inactive_heads.heads import TokenBatch
from inactive_heads.models import Model
from inactive_heads.shapes import ModelShape

Sample = str | Sequence[int]

TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 16384}
"""Padded tokens in one batch; a longer input runs alone."""


def encode_samples(model: Model, samples: Sequence[Sample]) -> list[list[int]]:
    """Every sample as token ids: texts by the model's tokenizer, ids as they are.

    Raises:
        UserError: no samples, one without tokens, one with an unknown token id, or one longer
            than the model's context; the message names the sample and the lengths.
    """
    if isinstance(samples, str) or not samples:
        raise UserError(
            f"samples must be a list with at least one text or list of token ids, not {samples!r:.60}"
        )
    encoded = [
        model.encode(sample) if isinstance(sample, str) else [int(token) for token in sample]
        for sample in samples
    ]
    for index, tokens in enumerate(encoded):
        check_tokens(tokens, model.shape, f"sample {index}")
    return encoded


def check_tokens(tokens: Sequence[int], shape: ModelShape, name: str) -> None:
    """Raise the UserError that says why the model cannot run this input, if it cannot."""
    if not tokens:
        raise UserError(f"{name} has no tokens; remove it or give a text that is not empty")
    if len(tokens) > shape.n_ctx:
        raise UserError(
            f"{name} has {len(tokens)} tokens, the model's context is {shape.n_ctx}; "
            "shorten or split it (nothing is cut silently)"
        )
    if not 0 <= min(tokens) <= max(tokens) < shape.d_vocab:
        raise UserError(
            f"{name} has token ids from {min(tokens)} to {max(tokens)}; the model's vocabulary "
            f"is 0 to {shape.d_vocab - 1}"
        )


def batches(
    model: Model,
    encoded: Sequence[Sequence[int]],
    *,
    batch_size: int | str = "auto",
    most_tokens: int | None = None,
) -> Iterator[TokenBatch]:
    """The inputs in batches of similar length, longest first; ``rows`` says which they are.

    Longest first, so that memory runs out at once or not at all. ``batch_size`` is a number of
    inputs, or "auto": as many as fit `TOKENS_PER_BATCH` (and ``most_tokens``).
    """
    order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
    while order:
        longest = len(encoded[order[0]])
        room = tokens_at_once(model, longest, batch_size)
        if batch_size == "auto" and most_tokens is not None:
            room = min(room, most_tokens)
        count = max(1, room // longest)
        rows, order = order[:count], order[count:]
        yield TokenBatch.of([encoded[row] for row in rows], rows=rows, device=model.engine.device)


def tokens_at_once(model: Model, longest: int, batch_size: int | str) -> int:
    """How many tokens are run together, where ``longest`` is the longest input's length.

    Raises:
        UserError: ``batch_size`` is neither a positive number nor "auto".
    """
    if isinstance(batch_size, int) and batch_size > 0:
        return batch_size * longest
    if batch_size != "auto":
        raise UserError(f'batch_size must be a positive number or "auto", not {batch_size!r}')
    return TOKENS_PER_BATCH.get(model.engine.device.type, TOKENS_PER_BATCH["cpu"])
