"""From a user's samples to batches: encoded, checked against the context and sorted by length."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import psutil
import torch

from inactive_heads.checks import check_batch_size
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.core.settings import default_settings
from inactive_heads.errors import Notice, UserError
from inactive_heads.models.model import Model
from inactive_heads.models.samples import Samples, read_samples

MOST_ADDED = 8
"""The most tokens that a tokenizer is expected to add to a text."""

FASTEST_TOKENS = {"cpu": 1024, "cuda": 65536}
"""Tokens per batch beyond which throughput hardly grows, measured on a CPU and on an H200."""

BATCH_COST = {"cpu": 64, "cuda": 8192}
"""What a batch costs beside its tokens, in tokens that take as long.

Measured on a CPU (135M parameters: 50 tokens); an estimate for a GPU, where it depends on the model.
"""


def encode_samples(model: Model, samples: Samples) -> list[list[int]]:
    """The token ids of every sample.

    Args:
        model: its tokenizer encodes texts, under its BOS rule.
        samples: texts, or token ids that are taken as they are, in any form that `read_samples`
            reads.

    Returns:
        Token ids of every sample, at least one and none cut.

    Raises:
        UserError: there are no samples, or one is neither a text nor token ids, has no tokens, has
            a token id that is not in the vocabulary, is a text of which the tokenizer knows
            nothing, or is longer than the model's context; the message names the sample and the
            lengths. Also if texts are given and the model has no tokenizer.
    """
    given = read_samples(samples)
    if not given:
        raise UserError("samples must be a list with at least one text or list of token ids")
    encoded = []
    for index, sample in enumerate(given):
        name = f"sample {index}"
        if isinstance(sample, str):
            tokens = model.encode(sample)
            if not sample or (len(tokens) <= MOST_ADDED and tokens == model.encode("")):
                tokens = []  # none but those that the tokenizer adds
            check_known(model, sample, tokens, name)
        else:
            tokens = sample
            _note_padding(model, tokens, name)
        check_tokens(tokens, model.shape, name)
        encoded.append(tokens)
    return encoded


def check_known(model: Model, text: str, tokens: Sequence[int], name: str) -> None:
    """Check that a tokenizer knows something of a text.

    Args:
        model: the model, whose tokenizer made the tokens.
        text: the text.
        tokens: its token ids.
        name: what the error message calls the text.

    Raises:
        UserError: all of the text's tokens are the unknown token.
    """
    tokenizer = model.tokenizer
    unknown = None if tokenizer is None else tokenizer.unk_token_id
    if tokenizer is None or unknown not in tokens:
        return
    others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    if unknown not in others and not {*tokens} - {unknown, *others}:
        raise UserError(
            f"{name} has only unknown tokens ({tokenizer.unk_token}): the tokenizer of "
            f"{model.name!r} knows nothing of {text!r:.40}; give the tokenizer that the model was "
            "trained with, or another text"
        )


def check_tokens(tokens: Sequence[int], shape: ModelShape, name: str) -> None:
    """Check that a model can run an input.

    Args:
        tokens: token ids.
        shape: the model's sizes.
        name: what the error message calls the input.

    Raises:
        UserError: the input has no tokens, is longer than the context, or has a token id that is
            not in the vocabulary.
    """
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


@default_settings()
def run_in_batches(
    model: Model,
    encoded: Sequence[Sequence[int]],
    run: Callable[[TokenBatch], None],
    *,
    batch_size: int | str = "auto",
    most_tokens: int | None = None,
) -> None:
    """Call ``run`` with the inputs in batches of similar length, longest first.

    Under "auto", batches are as large as is worth their padding. With the longest first, memory
    runs out at the start or not at all. If a batch does not fit in
    memory, this batch and all later ones hold half as many inputs, a warning says so, and ``run``
    is called again with inputs that it has already been given.

    Args:
        model: batches are made on its device.
        encoded: token ids of every input.
        run: called with every batch, right-padded; ``batch.rows`` are indices into ``encoded``.
        batch_size: inputs per batch; "auto" is the model's preset's number, or else as many as
            `tokens_per_batch` allows.
        most_tokens: the most tokens of one batch under "auto", for callers that store something per
            token; None for no limit.

    Raises:
        UserError: an invalid batch size, or an input that does not fit in memory by itself.
    """
    check_batch_size(batch_size)
    order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
    most_inputs = len(order)
    device = model.engine.device

    def fits(longest: int) -> int:
        room = tokens_at_once(model, longest, batch_size)
        if automatic and most_tokens is not None:
            room = min(room, most_tokens)
        return max(1, min(most_inputs, room // longest))

    automatic = batch_size == model.batch_size == "auto"
    cost = BATCH_COST.get(device.type, BATCH_COST["cpu"]) if automatic else None
    while order:
        lengths = [len(encoded[row]) for row in order]
        for size in batch_sizes(lengths, fits, cost):
            rows = order[:size]
            batch = TokenBatch.of([encoded[row] for row in rows], rows=rows, device=device)
            if not fits_in_memory(partial(run, batch)):
                break
            order = order[size:]
        if not order:
            return
        longest = len(encoded[order[0]])
        if size == 1:
            raise UserError(
                f"an input of {longest} tokens does not fit in the memory of {device} by itself; "
                "give shorter inputs, a smaller dtype, or another device"
            )
        most_inputs = size // 2
        warnings.warn(
            f"{size} inputs of {longest} tokens do not fit in the memory of {device} together; "
            f"going on with {most_inputs} at a time",
            Notice,
            stacklevel=2,
        )


def batch_sizes(lengths: Sequence[int], fits: Callable[[int], int], cost: int | None) -> list[int]:
    """The numbers of inputs of consecutive batches.

    Args:
        lengths: the inputs' lengths in tokens, the longest first.
        fits: returns how many inputs of a length fit in a batch, at least 1.
        cost: what a batch costs beside its tokens, in tokens; the sum over all batches, padding
            included, is the least possible. None to fill every batch.

    Returns:
        The sizes, which sum to the number of inputs.
    """
    most = {length: fits(length) for length in sorted({*lengths})}
    n = len(lengths)
    best, size = np.zeros(n + 1), np.ones(n, dtype=int)
    # From the last input on: what batches cost that begin here depends on later ones only.
    for start in reversed(range(n)):
        longest = lengths[start]
        sizes = np.arange(1, min(most[longest], n - start) + 1)
        if cost is None:
            size[start] = sizes[-1]
            continue
        costs = cost + sizes * longest + best[start + sizes]
        size[start] = sizes[costs.argmin()]
        best[start] = costs.min()
    found, start = [], 0
    while start < n:
        found.append(int(size[start]))
        start += found[-1]
    return found


def fits_in_memory(run: Callable[[], object]) -> bool:
    """Run a function, and say whether the device had enough memory for it.

    Args:
        run: called once. Errors other than a lack of memory are raised.

    Returns:
        False if memory ran out; the memory that the run had taken is free again.
    """
    try:
        run()
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
    else:
        return True
    # Outside the handler, whose traceback keeps the failed run's tensors alive.
    torch.cuda.empty_cache()
    return False


def tokens_at_once(model: Model, longest: int, batch_size: int | str) -> int:
    """The number of tokens, padding included, that one batch may hold.

    Args:
        model: the model that runs them.
        longest: length of the longest input, in tokens.
        batch_size: inputs per batch; "auto" is the model's preset's number, or else as many as
            `tokens_per_batch` allows.

    Returns:
        Tokens; fewer than ``longest`` if not even one input is expected to fit.

    Raises:
        UserError: an invalid batch size.
    """
    check_batch_size(batch_size)
    wanted = model.batch_size if batch_size == "auto" else batch_size
    if isinstance(wanted, int):
        return wanted * longest
    return tokens_per_batch(model, longest)


def tokens_per_batch(model: Model, longest: int) -> int:
    """The number of tokens, padding included, that one batch may hold under "auto".

    Half of the device's free memory is used, and no more tokens than make a batch faster
    (`FASTEST_TOKENS`).

    Args:
        model: the model that runs them.
        longest: length of the longest input, in tokens.

    Returns:
        Tokens; fewer than ``longest`` if not even one input is expected to fit.
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
    # On a CPU, PyTorch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _note_padding(model: Model, tokens: Sequence[int], name: str) -> None:
    """Warn of token ids that begin or end in what looks like padding."""
    tokenizer = model.tokenizer
    pad = None if tokenizer is None else tokenizer.pad_token_id
    if tokenizer is None or pad is None or pad not in tokens:
        return
    # A single EOS, where it serves as padding too, is a text's own end.
    fewest = 2 if pad in (tokenizer.bos_token_id, tokenizer.eos_token_id) else 1
    for place, ids in (("ends", tokens[::-1]), ("begins", tokens)):
        run = next((at for at, token in enumerate(ids) if token != pad), len(ids))
        if run >= fewest:
            warnings.warn(
                f"{name} {place} in {run} times the token {tokenizer.pad_token!r} that pads texts, "
                "which counts as text here: leave padding out, or give all that the tokenizer "
                "returns, attention_mask included",
                Notice,
                stacklevel=3,
            )
