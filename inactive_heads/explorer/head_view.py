"""The numbers behind the explorer: one head on one text, ranks of scores, and token losses."""

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
from inactive_heads.core.settings import default_settings
from inactive_heads.evaluation.log_likelihood import log_likelihoods
from inactive_heads.models.batching import encode_samples
from inactive_heads.models.load import as_model
from inactive_heads.models.model import Model
from inactive_heads.models.samples import Sample
from inactive_heads.tasks.text_task import text_input

AlongTokens = Float[np.ndarray, " pos"]


@dataclass(frozen=True, eq=False)
class HeadView:
    """What one head does on one text.

    Arrays are float32; ``pos`` is the token's position in the text.

    Attributes:
        layer, head: the head.
        pattern: attention weights, ``(query, key)`` (``hook_pattern``).
        first_token_weight: each query's attention weight on the first token, ``(pos,)``.
        entropy: entropy of each query's attention, in nats, ``(pos,)``.
        v_norm, z_norm, result_norm: L2 norms of each token's value vector, head output before
            W_O, and head output after W_O, ``(pos,)``.
    """

    layer: int
    head: int
    pattern: Float[np.ndarray, "query key"]
    first_token_weight: AlongTokens
    entropy: AlongTokens
    v_norm: AlongTokens
    z_norm: AlongTokens
    result_norm: AlongTokens


@default_settings()
def head_view(model: Any, text: Sample, layer: int, head: int) -> HeadView:
    """What one head does on one text, from one run of the model.

        view = ih.head_view(model, "The cat sat on the mat.", layer=5, head=3)
        view.pattern.sum(axis=1)   # 1 for every query

    The flash engine computes the attention pattern of this head only; TransformerLens computes
    all patterns.

    Args:
        model: a `Model` from `load_model`, a TransformerBridge or a HookedTransformer.
        text: a text, or token ids as a list, array, tensor or tokenizer's output.
        layer: the layer's number in the model.
        head: the query head's number in the layer.

    Returns:
        The attention pattern and the per-token numbers.

    Raises:
        UserError: ``model`` is not a model or has no such head; or the text is empty, longer than
            the context, or has an unknown token id.
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
    """The next-token loss at every token of a text except the first.

        tokens = model.encode("The cat sat on the mat.")
        change = ih.token_losses(model, tokens, ih.Fixed([(5, 3)])) - ih.token_losses(model, tokens)
        change[i]   # the change at tokens[i + 1]

    Args:
        model: a `Model` from `load_model`, a TransformerBridge or a HookedTransformer.
        text: a text, or token ids as a list, array, tensor or tokenizer's output.
        ablation: the heads to silence. Default: none.

    Returns:
        The losses in nats, float32, one fewer than the text has tokens.

    Raises:
        UserError: ``model`` is not a model; the text has fewer than two tokens, is longer than
            the context, or has an unknown token id; or the ablation does not fit the model.
    """
    subject = as_model(model)
    recorder = None if ablation is None else ZeroedRecorder(ablation, subject.shape, 1)
    asked = text_input(encode_samples(subject, [text])[0], "the text")
    return -log_likelihoods(subject, [asked], recorder, advance=lambda done: None)[0]


def head_standings(scores: xr.DataArray) -> xr.Dataset:
    """Every head's mean scores and ranks.

    Args:
        scores: ``(score, sample, layer, head)``, from `score_heads`.

    Returns:
        Variables ``(score, layer, head)``: ``mean`` over samples; ``rank`` among the model's heads
        and ``rank_in_layer``, where 1 is furthest on the inactive side and equal heads share the
        lower number. All are NaN where every sample's score is NaN.
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
    """Every token as it reads in its text.

    Args:
        model: the model whose tokenizer decodes the tokens.
        tokens: token ids.

    Returns:
        One string per token; the id as a string if the model has no tokenizer.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        return [str(token) for token in tokens]

    def read(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    alone = [read([token]) for token in tokens]
    strings = alone[:1]
    for place in range(1, len(tokens)):
        # Decoded with the token before it: some tokenizers drop a leading space at the start.
        before, both = alone[place - 1], read(tokens[place - 1 : place + 1])
        follows = both.startswith(before) and len(both) > len(before)
        strings.append(both[len(before) :] if follows else alone[place])
    return strings


def _view(heads: HeadActivations, head: int) -> HeadView:
    # The pattern first: some models compute it late, and the visitor is then called again.
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
