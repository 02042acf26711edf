"""What one head does on one text, where its scores stand, and what the text costs without heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from inactive_heads.ablation.ablations import Ablation, Fixed
from inactive_heads.ablation.recorder import ZeroedRecorder
from inactive_heads.analysis.heads.head_sets import head_ranks
from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.evaluation.log_likelihood import log_likelihoods
from inactive_heads.models.batching import Sample, encode_samples
from inactive_heads.models.load import as_model
from inactive_heads.models.model import Model
from inactive_heads.tasks.text_task import text_input

AlongTokens = Float[np.ndarray, " pos"]


@dataclass(frozen=True, eq=False)
class HeadView:
    """What one head does on one text, float32.

    Attributes:
        layer, head: which head.
        pattern: its attention weights, ``(query, key)`` (``hook_pattern``).
        first_token_weight: the weight that every query gives to the first token.
        entropy: of every query's attention, in nats.
        v_norm, z_norm, result_norm: L2 norms of every token's value vector, head output before
            W_O, and head output after it.
    """

    layer: int
    head: int
    pattern: Float[np.ndarray, "query key"]
    first_token_weight: AlongTokens
    entropy: AlongTokens
    v_norm: AlongTokens
    z_norm: AlongTokens
    result_norm: AlongTokens


def head_view(model: Any, text: Sample, layer: int, head: int) -> HeadView:
    """What a head does on a text (or list of token ids), from one run of the model.

        view = ih.head_view(model, "The cat sat on the mat.", layer=5, head=3)
        view.pattern.sum(axis=1)   # 1 for every query

    No pattern but this head's is computed by the flash engine (TransformerLens computes all).

    Raises:
        UserError: the model has no such head, or cannot run the text.
    """
    subject = as_model(model)
    Fixed([(layer, head)]).check(subject.shape)
    tokens = encode_samples(subject, [text])[0]
    found: list[HeadView] = []

    def look(heads: HeadActivations) -> None:
        if heads.layer == layer:
            found.append(_view(heads, head))

    subject.engine.run(TokenBatch.of([tokens], device=subject.engine.device), look)
    return found[0]


def token_losses(
    model: Any, text: Sample, ablation: Ablation | None = None
) -> Float[np.ndarray, " predicted"]:
    """The loss of every token of a text but the first, in nats, float32.

        tokens = model.encode("The cat sat on the mat.")
        change = ih.token_losses(model, tokens, ih.Fixed([(5, 3)])) - ih.token_losses(model, tokens)
        change[i]   # of tokens[i + 1]

    Raises:
        UserError: a text of one token, of which nothing is predicted; heads the model has not.
    """
    subject = as_model(model)
    recorder = None if ablation is None else ZeroedRecorder(ablation, subject.shape, 1)
    asked = text_input(encode_samples(subject, [text])[0], "the text")
    return -log_likelihoods(subject, [asked], recorder, advance=lambda done: None)[0]


def head_standings(scores: xr.DataArray) -> xr.Dataset:
    """Every head's scores averaged over samples, and their places: each (score, layer, head).

    ``mean``; ``rank`` among the model's heads and ``rank_in_layer``, 1 being furthest on the
    inactive side and equal heads sharing the better place. NaN where the mean is not known.
    """
    mean = scores.mean("sample").transpose("score", "layer", "head")
    values, sides = mean.to_numpy(), scores["inactive"].to_numpy().tolist()
    pairs = list(zip(values, sides, strict=True))
    rank = np.stack([head_ranks(grid, side) for grid, side in pairs])
    in_layer = np.stack([[head_ranks(row, side) for row in grid] for grid, side in pairs])
    dims = ("score", "layer", "head")
    places = {"rank": (dims, rank), "rank_in_layer": (dims, in_layer)}
    return xr.Dataset({"mean": mean, **places})


def token_strings(model: Model, tokens: Sequence[int]) -> list[str]:
    """Every token as it reads in its text; its id, where the model has no tokenizer."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        return [str(token) for token in tokens]

    def read(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    alone = [read([token]) for token in tokens]
    strings = alone[:1]
    for place in range(1, len(tokens)):
        # After another: some tokenizers leave out the space that begins the first of a text.
        before, both = alone[place - 1], read(tokens[place - 1 : place + 1])
        follows = both.startswith(before) and len(both) > len(before)
        strings.append(both[len(before) :] if follows else alone[place])
    return strings


def _view(heads: HeadActivations, head: int) -> HeadView:
    # The pattern first: some models show it late, and the visitor is then called again.
    pattern = heads.pattern_of(head)[0]
    along = (
        heads.first_token_weight,
        heads.entropy,
        heads.v_norm,
        heads.z_norm,
        heads.result_norm,
    )
    rows = (values[0, :, head].float().cpu().numpy() for values in along)
    return HeadView(heads.layer, head, pattern.float().cpu().numpy(), *rows)
