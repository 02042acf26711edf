"""Variants of RON: other lengths, other readers, other ways of pooling over tokens.

Each is a score: the length of what a head writes, weighted by its readers, relative to the stream
that it is added to, pooled over the tokens of an input. In docstrings, w is what a head adds to the
residual stream, and x the stream with all heads of the layer added.
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
    """A score that pools a length per token and head over an input's tokens.

    Args:
        lengths: returns ``(batch, pos, head)``.
        pooling: how tokens are pooled. The first token is left out, except in "last" and in
            "rms, first token in".
    """

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
    """What each head adds to the residual stream, after a post-attention norm if there is one.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, pos, head, d_model)``, float32.
    """
    norm = heads.path.norm
    if norm is None:
        return heads.result
    scale = heads.path.written_scale(heads.path.total(heads.z))
    return norm.linear(heads.result).float() * scale[:, :, None]


def over_stream_before(heads: ih.HeadActivations) -> PerToken:
    """|w| over the norm of the stream before the layer's heads are added.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, pos, head)``.
    """
    return heads.written_norm / heads.residual_norm


def over_stream_after(heads: ih.HeadActivations) -> PerToken:
    """|w| / |x|.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, pos, head)``.
    """
    return heads.written_norm / heads.updated.norm(dim=-1, keepdim=True)


def across_stream(heads: ih.HeadActivations) -> PerToken:
    """The norm of the part of w orthogonal to x, over |x|.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, pos, head)``.
    """
    return _across(written(heads), heads.updated[:, :, None]) / heads.updated.norm(
        dim=-1, keepdim=True
    )


def across_others(heads: ih.HeadActivations) -> PerToken:
    """The norm of the part of w orthogonal to the sum of the layer's other heads, over |x|.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, pos, head)``.
    """
    own = written(heads)
    others = reduce(own, "batch pos head d -> batch pos 1 d", "sum") - own
    return _across(own, others) / heads.updated.norm(dim=-1, keepdim=True)


def share_of_layer(heads: ih.HeadActivations) -> PerToken:
    """|w| over the norm of the sum of the layer's heads.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, pos, head)``.
    """
    total = reduce(written(heads), "batch pos head d -> batch pos d", "sum")
    return heads.written_norm / total.norm(dim=-1, keepdim=True)


def _across(own: Tensor, other: Tensor) -> PerToken:
    """The norm of the part of ``own`` orthogonal to ``other``; of all of ``own`` if that is 0."""
    direction = other / other.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    along = (own * direction).sum(dim=-1)
    return (own.square().sum(dim=-1) - along.square()).clamp(min=0).sqrt()


@dataclass(eq=False)
class Readers:
    """The readers of a model's residual stream: gains of norms, and the weights behind them.

    Args:
        model: built like Llama, with gate and up projections in the MLP, in the flash engine.
    """

    model: ih.Model

    @cached_property
    def _read_by(self) -> dict[int, dict[str, tuple[Tensor, Tensor]]]:
        """For each layer's "attention" and "mlp": the norm's gain and the weights behind it."""
        found = {}
        for layer, block in enumerate(self.model.engine.network.base_model.layers):
            # Gemma's norm after attention stands before the residual stream.
            after = getattr(block, "pre_feedforward_layernorm", block.post_attention_layernorm)
            attention = [getattr(block.self_attn, f"{kind}_proj") for kind in "qkv"]
            mlp = [block.mlp.gate_proj, block.mlp.up_proj]
            kinds = {"attention": (block.input_layernorm, attention), "mlp": (after, mlp)}
            found[layer] = {
                kind: (
                    _gain(norm),
                    torch.cat([one.weight.detach() for one in linears]).float(),
                )
                for kind, (norm, linears) in kinds.items()
            }
        return found

    def _later(self, layer: int) -> list[tuple[Tensor, Tensor]]:
        """The readers of what a layer's heads write: its MLP, and those of later layers."""
        own = [self._read_by[layer]["mlp"]]
        return own + [
            reader
            for other, kinds in self._read_by.items()
            if other > layer
            for reader in kinds.values()
        ]

    def gains(self, which: Literal["own mlp", "later", "later, of equal size", "last"]) -> Lengths:
        """|g w| / |x| with the gains of other readers.

        Args:
            which: the readers whose gains make up g: the layer's MLP, all later readers (with
                gains as they are or scaled to equal size), or the last norm.

        Returns:
            A function of a layer's heads that returns ``(batch, pos, head)``.
        """

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
        """|g w| / |x| with the sum over readers in place of their mean.

        Returns:
            A function of a layer's heads that returns ``(batch, pos, head)``.
        """

        def lengths(heads: ih.HeadActivations) -> PerToken:
            return heads.read_norm * len(self._later(heads.layer)) ** 0.5

        return lengths

    def weights(self, which: Literal["own mlp", "later", "unembedding"]) -> Lengths:
        """|w R| / |x|, where R are the weights that read w, multiplied by their norms' gains.

        Args:
            which: the readers: the layer's MLP, all later readers, or the unembedding.

        Returns:
            A function of a layer's heads that returns ``(batch, pos, head)``.
        """
        read = {layer: self._weights(layer, which) for layer in self._read_by}
        return self._weighed(read)

    def _weights(self, layer: int, which: str) -> Tensor:
        network = self.model.engine.network
        if which == "unembedding":
            unembedding = network.get_output_embeddings().weight.detach().float()
            # A constant added to all logits changes no probability.
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
    """R such that |w R|² is the sum over readers of |W w|².

    Readers marked true are scaled to equal size first.
    """
    grams = []
    for weights, equal in readers:
        gram = (weights.T @ weights).double()
        grams.append(gram / gram.trace() * len(gram) if equal else gram)
    values, vectors = torch.linalg.eigh(sum(grams))
    return (vectors * values.clamp(min=0).sqrt()).float()
