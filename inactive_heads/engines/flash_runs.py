"""What the flash engine does in every layer: with a visitor, in a row of segments, or at a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from einops import rearrange
from transformers import DynamicCache

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.attention_statistics import AttentionStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.output_path import OutputPath
from inactive_heads.core.tensor_types import HeadVectors, KeyValueVectors
from inactive_heads.engines.attention.attend import attend, attend_to_all
from inactive_heads.engines.attention.cascade import RowAttention
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.base import LayerSilences, Visitor, checked_answer
from inactive_heads.engines.network.stream import Streams, captured_stream
from inactive_heads.engines.routing.refusals import unsupported


@dataclass(eq=False)
class VisitedRun:
    """One run with a visitor: computes each layer's heads, shows them and applies the answer.

    Visitors do not say beforehand what they will ask for. If one asks for the entropy in a layer,
    it is computed along with z in the next.
    """

    batch: TokenBatch
    visitor: Visitor
    streams: Streams
    path: Callable[[int], OutputPath]
    entropy_asked: bool = False
    attended: dict[int, tuple[KeyValueVectors, AttentionStatistics]] = field(default_factory=dict)

    def attend(self, layer: int, inputs: AttentionInputs) -> HeadVectors:
        n_tokens = self.batch.tokens.shape[1]
        _check_tokens(layer, inputs, n_tokens, n_tokens)
        z, statistics = attend(inputs, with_entropy=self.entropy_asked)
        values = rearrange(inputs.value, "batch kv_head pos d_head -> batch pos kv_head d_head")
        self.attended[layer] = values, statistics
        return z

    def answer(self, layer: int, z: HeadVectors) -> HeadVectors:
        values, statistics = self.attended.pop(layer)
        heads = HeadActivations(
            layer=layer,
            batch=self.batch,
            values=values,
            outputs=z,
            attention=statistics,
            path=self.path(layer),
            stream=partial(captured_stream, self.streams, layer, z, self.path(layer)),
        )
        silence = self.visitor(heads)
        self.entropy_asked = heads.entropy_asked
        self.streams.pop(layer, None)
        return z if silence is None else silence.apply(z)


@dataclass(eq=False)
class RowRun:
    """One run of a row: computes and silences each layer's heads, and caches for the next row."""

    attention: RowAttention
    silences: LayerSilences
    cache: DynamicCache = field(default_factory=DynamicCache)

    def attend(self, layer: int, inputs: AttentionInputs) -> HeadVectors:
        _check_tokens(layer, inputs, len(self.attention.positions), self.attention.n_keys)
        kept = self.attention.kept.to(inputs.key.device)
        if len(kept):
            key, value = inputs.held_once
            self.cache.update(key[:, :, kept], value[:, :, kept], layer)
        return self.attention.attend(inputs)

    def answer(self, layer: int, z: HeadVectors) -> HeadVectors:
        return _silenced(self.silences, layer, z)


@dataclass(eq=False)
class StepRun:
    """One run of tokens after those in a cache: computes and silences each layer's heads."""

    silences: LayerSilences
    n_tokens: int = 0
    """How many tokens there are, with those in the cache and those of this run."""

    def attend(self, layer: int, inputs: AttentionInputs) -> HeadVectors:
        n_queries, n_keys = inputs.query.shape[2], inputs.key.shape[2]
        # A cache may have dropped keys that no window reaches.
        _check_tokens(layer, inputs, n_queries, min(n_keys, self.n_tokens))
        return attend_to_all(inputs) if inputs.query.shape[2] == 1 else attend(inputs)[0]

    def answer(self, layer: int, z: HeadVectors) -> HeadVectors:
        return _silenced(self.silences, layer, z)


def _check_tokens(layer: int, inputs: AttentionInputs, n_queries: int, n_keys: int) -> None:
    if (what := inputs.beside_tokens(n_queries, n_keys)) is not None:
        raise unsupported(f"layer {layer}", what)


def _silenced(silences: LayerSilences, layer: int, z: HeadVectors) -> HeadVectors:
    silence = checked_answer(silences(layer), z, layer)
    return z if silence is None else silence.apply(z)
