"""From a user's samples to batches: encoded, checked against the context, sorted by length."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import psutil
import torch

from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import ModelShape
from inactive_heads.errors import Notice, UserError
from inactive_heads.models.model import Model

Sample = str | Sequence[int]

FASTEST_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Tokens in one batch from which more are no faster: on a CPU, measured; on CUDA, a guess."""


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


def run_in_batches(
    model: Model,
    encoded: Sequence[Sequence[int]],
    run: Callable[[TokenBatch], None],
    *,
    batch_size: int | str = "auto",
    most_tokens: int | None = None,
) -> None:
    """Calls ``run`` with the inputs in batches of similar length, longest first.

    Longest first, so that memory runs out at once or not at all. A batch that does not fit in
    memory is halved, which a warning says, and so are all after it; ``run`` is then called
    again with inputs that it was given before.

    Args:
        model: whose device the batches are made on.
        encoded: token ids; a batch's ``rows`` say which of these it holds.
        run: what is done with a batch.
        batch_size: a number of inputs, or "auto": the model's preset's, else as many as
            `tokens_per_batch` allows.
        most_tokens: of one batch, where the caller holds something per token itself.

    Raises:
        UserError: no such batch size, or an input that does not fit in memory by itself.
    """
    check_batch_size(batch_size)
    order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
    most_inputs = len(order)
    while order:
        longest = len(encoded[order[0]])
        room = tokens_at_once(model, longest, batch_size)
        if batch_size == model.batch_size == "auto" and most_tokens is not None:
            room = min(room, most_tokens)
        rows = order[: min(most_inputs, max(1, room // longest))]
        batch = TokenBatch.of([encoded[row] for row in rows], rows=rows, device=model.engine.device)
        if fits_in_memory(partial(run, batch)):
            order = order[len(rows) :]
            continue
        if len(rows) == 1:
            raise UserError(
                f"an input of {longest} tokens does not fit in the memory of "
                f"{model.engine.device} by itself; give shorter inputs, a smaller dtype, or "
                "another device"
            )
        most_inputs = len(rows) // 2
        warnings.warn(
            f"{len(rows)} inputs of {longest} tokens do not fit in the memory of "
            f"{model.engine.device} together; going on with {most_inputs} at a time",
            Notice,
            stacklevel=2,
        )


def fits_in_memory(run: Callable[[], object]) -> bool:
    """Whether what is run goes through; False where the device has too little memory for it."""
    try:
        run()
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
    else:
        return True
    # Outside the handler, whose traceback holds on to the tensors of what failed.
    torch.cuda.empty_cache()
    return False


def tokens_at_once(model: Model, longest: int, batch_size: int | str) -> int:
    """How many tokens are run together, where ``longest`` is the longest input's length."""
    check_batch_size(batch_size)
    wanted = model.batch_size if batch_size == "auto" else batch_size
    if isinstance(wanted, int):
        return wanted * longest
    return tokens_per_batch(model, longest)


def check_batch_size(batch_size: int | str) -> None:
    """Raise a UserError unless it is a positive number or "auto"."""
    if batch_size != "auto" and not (isinstance(batch_size, int) and batch_size > 0):
        raise UserError(f'batch_size must be a positive number or "auto", not {batch_size!r}')


def tokens_per_batch(model: Model, longest: int) -> int:
    """How many tokens, padding included, one batch of inputs up to ``longest`` tokens may hold.

    What the free memory of the model's device holds, with as much again to spare, and not more
    than makes it faster.
    """
    device = model.engine.device
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + unused
    else:
        free = psutil.virtual_memory().available
    fits = free // (2 * model.engine.bytes_per_token(longest))
    return int(min(fits, FASTEST_TOKENS.get(device.type, FASTEST_TOKENS["cpu"])))


def _out_of_memory(error: RuntimeError) -> bool:
    # On a CPU PyTorch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
