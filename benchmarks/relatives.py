"""The scores around RON that were tried: other lengths, other readers, other ways over tokens.

Each is a score like any other: what a head writes, weighed by those who read it, over what it is
added to, and that over the tokens of an input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from einops import einsum, reduce
from torch import Tensor

import inactive_heads as ih
from inactive_heads.core.output_path import Norm
from inactive_heads.core.tensor_types import PerHead, PerToken, ResultVectors

Pooling = Literal["rms", "mean", "max", "last", "geometric", "rms, first token in"]
Lengths = Callable[[ih.HeadActivations], PerToken]


@dataclass(frozen=True, eq=False)
class Relative:
    """A length per token and head, over an input's tokens; the first is left out but where said."""

    lengths: Lengths
    pooling: Pooling = "rms"

    def __call__(self, heads: ih.HeadActivations) -> PerHead:
        """The score, ``(batch, head)``."""
        values = self.lengths(heads)
        if self.pooling == "last":
            return heads.at_last_token(values)
        kept = heads.batch.mask.clone()
        if self.pooling != "rms, first token in":
            kept[torch.arange(len(kept)), heads.batch.first] = False
        real = kept[:, :, None].to(values.device)
        n = reduce(real, "batch pos one -> batch one", "sum")
        if self.pooling == "max":
            return torch.where(real, values, 0).amax(dim=1)
        if self.pooling == "mean":
            return torch.where(real, values, 0).sum(dim=1) / n
        if self.pooling == "geometric":
            return (torch.where(real, values.clamp(min=1e-9).log(), 0).sum(dim=1) / n).exp()
        return (torch.where(real, values.square(), 0).sum(dim=1) / n).sqrt()


def written(heads: ih.HeadActivations) -> ResultVectors:
    """What each head adds to the residual stream, after a norm of attention's output."""
    norm = heads.path.norm
    if norm is None:
        return heads.result
    scale = heads.path.written_scale(heads.path.total(heads.z))
    return norm.linear(heads.result).float() * scale[:, :, None]


def over_stream_before(heads: ih.HeadActivations) -> PerToken:
    """|w| / |x|, x the stream that the layer's heads add to."""
    return heads.written_norm / heads.residual_norm


def over_stream_after(heads: ih.HeadActivations) -> PerToken:
    """|w| / |x|, x the stream with all heads of the layer."""
    return heads.written_norm / heads.updated.norm(dim=-1, keepdim=True)


def across_stream(heads: ih.HeadActivations) -> PerToken:
    """The part of w orthogonal to x, over |x|."""
    return _across(written(heads), heads.updated[:, :, None]) / heads.updated.norm(
        dim=-1, keepdim=True
    )


def across_others(heads: ih.HeadActivations) -> PerToken:
    """The part of w orthogonal to the sum of the layer's other heads, over |x|."""
    own = written(heads)
    others = reduce(own, "batch pos head d -> batch pos 1 d", "sum") - own
    return _across(own, others) / heads.updated.norm(dim=-1, keepdim=True)


def share_of_layer(heads: ih.HeadActivations) -> PerToken:
    """|w| over the length of the sum of the layer's heads."""
    total = reduce(written(heads), "batch pos head d -> batch pos d", "sum")
    return heads.written_norm / total.norm(dim=-1, keepdim=True)


def _across(own: Tensor, other: Tensor) -> PerToken:
    """Length of what of ``own`` is orthogonal to ``other``; all of it where ``other`` is 0."""
    direction = other / other.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    along = (own * direction).sum(dim=-1)
    return (own.square().sum(dim=-1) - along.square()).clamp(min=0).sqrt()


@dataclass(eq=False)
class Readers:
    """Who reads the residual stream of a model: the gains of norms, and the weights behind them.

    Known of models built like Llama: gate and up projections in the MLP, queries, keys and values.
    """

    model: ih.Model

    @cached_property
    def _read_by(self) -> dict[int, dict[str, tuple[Tensor, Tensor]]]:
        """Of each layer's "attention" and "mlp": the norm's gain, and the weights it is read by."""
        engine = self.model.engine
        found = {}
        for layer, norms in engine._norms.items():
            block = engine._blocks[layer]
            attention = [getattr(block.self_attn, f"{kind}_proj") for kind in "qkv"]
            mlp = [block.mlp.gate_proj, block.mlp.up_proj]
            kinds = {"attention": (norms.before, attention), "mlp": (norms.after, mlp)}
            found[layer] = {
                kind: (
                    _gain(norm),
                    torch.cat([one.weight.detach() for one in linears]).float(),
                )
                for kind, ((norm,), linears) in kinds.items()
            }
        return found

    def _later(self, layer: int) -> list[tuple[Tensor, Tensor]]:
        """The readers of what a layer's heads write: its own MLP, and all of later layers."""
        own = [self._read_by[layer]["mlp"]]
        return own + [
            reader
            for other, kinds in self._read_by.items()
            if other > layer
            for reader in kinds.values()
        ]

    def gains(self, which: Literal["own mlp", "later", "later, of equal size", "last"]) -> Lengths:
        """|g w| / |x| with other gains g."""

        def gain(layer: int) -> Tensor:
            if which == "own mlp":
                return self._read_by[layer]["mlp"][0]
            if which == "last":
                return _gain(self.model.engine.network.base_model.norm)
            gains = torch.stack([gain for gain, _ in self._later(layer)])
            if which == "later, of equal size":
                gains = gains / gains.square().mean(dim=1, keepdim=True).sqrt()
            return gains.square().mean(dim=0).sqrt()

        return self._weighed({layer: gain(layer).diag() for layer in self._read_by})

    def number(self) -> Lengths:
        """|g w| / |x| times the root of the number of readers: their sum in place of their mean."""

        def lengths(heads: ih.HeadActivations) -> PerToken:
            return heads.read_norm * len(self._later(heads.layer)) ** 0.5

        return lengths

    def weights(self, which: Literal["own mlp", "later", "unembedding"]) -> Lengths:
        """|w R| / |x|, R all weights that read w, with their gains."""
        read = {layer: self._weights(layer, which) for layer in self._read_by}
        return self._weighed(read)

    def _weights(self, layer: int, which: str) -> Tensor:
        network = self.model.engine.network
        if which == "unembedding":
            unembedding = network.get_output_embeddings().weight.detach().float()
            # What all logits have in common changes no probability.
            centred = unembedding - unembedding.mean(dim=0)
            return _root((_gain(network.base_model.norm) * centred, False))
        if which == "own mlp":
            gain, weights = self._read_by[layer]["mlp"]
            return _root((gain * weights, False))
        return _root(*((gain * weights, True) for gain, weights in self._later(layer)))

    @staticmethod
    def _weighed(roots: dict[int, Tensor]) -> Lengths:
        def lengths(heads: ih.HeadActivations) -> PerToken:
            weighed = einsum(
                written(heads), roots[heads.layer], "b pos head d, d k -> b pos head k"
            )
            return weighed.norm(dim=-1) / heads.updated.norm(dim=-1, keepdim=True)

        return lengths


def _gain(norm: torch.nn.Module) -> Tensor:
    return Norm.of(norm).gain.float()


def _root(*readers: tuple[Tensor, bool]) -> Tensor:
    """R with |w R|² the sum over readers of |W w|², those marked first made of equal size."""
    grams = []
    for weights, equal in readers:
        gram = (weights.T @ weights).double()
        grams.append(gram / gram.trace() * len(gram) if equal else gram)
    values, vectors = torch.linalg.eigh(sum(grams))
    return (vectors * values.clamp(min=0).sqrt()).float()
