"""How a layer's heads write into the residual stream, and how later layers read it.

Heads write through W_O. Gemma 2 and 3 and OLMo 2 normalise what attention puts out before it is
added to the stream; such a norm is linear but for one scale per token, which all heads share, so
that what reaches the stream is still a sum over heads. Later layers read the stream through norms
of their own, which weigh its coordinates by their gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from inactive_heads.core.tensor_types import HeadVectors, OutputWeights, Residual
from inactive_heads.errors import UserError

Roots = Float[Tensor, "head d_head root"]
PerPosition = Float[Tensor, "batch pos 1"]


@dataclass(frozen=True, eq=False)
class Norm:
    """``gain · (x - mean x) / sqrt(mean (x - mean x)² + eps)``; without the means if not ``centred``.

    A bias that is added belongs to no head and is left out.
    """

    gain: Float[Tensor, " d_model"]
    eps: float
    centred: bool

    @staticmethod
    def of(module: nn.Module) -> Norm:
        """What a norm computes, found by trying it: models keep the gain as it is or less 1.

        Raises:
            UserError: it is neither a LayerNorm nor an RMSNorm.
        """
        weight = getattr(module, "weight", getattr(module, "w", None))
        bias = getattr(module, "bias", getattr(module, "b", None))  # TransformerLens 3: w and b
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        if isinstance(weight, Tensor) and weight.ndim == 1 and eps is not None:
            generator = torch.Generator().manual_seed(0)
            tried = torch.randn(1, 4, len(weight), generator=generator).to(weight)
            with torch.no_grad():
                expected = module(tried).double() - (0 if bias is None else bias)
            for gain in (weight.detach().double(), weight.detach().double() + 1):
                for centred in (False, True):
                    norm = Norm(gain, float(eps), centred)
                    found = norm.linear(tried) * norm.scale(tried)
                    if bool((found - expected).norm() < 0.01 * expected.norm()):
                        return norm
        raise UserError(
            f"the norm {type(module).__name__} is neither a LayerNorm nor an RMSNorm: what heads "
            "write into the residual stream, or what later layers read there, is not known"
        )

    @staticmethod
    def together(norms: Sequence[Norm], d_model: int) -> Norm:
        """One norm for all: its gain the root mean square of theirs; gain 1 where there is none."""
        if not norms:
            return Norm(torch.ones(d_model, dtype=torch.float64), 0.0, centred=False)
        gains = torch.stack([norm.gain.cpu() for norm in norms])
        return Norm(gains.square().mean(dim=0).sqrt(), 0.0, all(norm.centred for norm in norms))

    def linear(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """What the norm does to x, but for the scale; float64."""
        wide = x.double()
        return self.gain.to(x.device) * (
            wide - wide.mean(dim=-1, keepdim=True) if self.centred else wide
        )

    def scale(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... 1"]:
        """What the norm divides x by, inverted."""
        centred = x - x.mean(dim=-1, keepdim=True) if self.centred else x
        return torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.eps)


@dataclass(eq=False)
class OutputPath:
    """The way of a layer's head outputs z into the residual stream.

    Attributes:
        weights: W_O, one matrix per head.
        bias: b_O, which belongs to no head.
        norm: what attention's output goes through before it is added to the stream.
        multiplier: what it is multiplied by there (Granite); None where that is not known.
        reader: gives the norms through which later layers read the stream, as one; found when a
            score first asks, for it looks at every later layer.
    """

    weights: OutputWeights
    bias: Float[Tensor, " d_model"] | None = None
    norm: Norm | None = None
    multiplier: float | None = 1.0
    reader: Callable[[], Norm] | None = None

    @cached_property
    def root(self) -> Roots:
        """A root of every head's Gram matrix W_O W_Oᵀ: ``|z root| = |z W_O|``."""
        return output_root(self.weights)

    @cached_property
    def written_root(self) -> Roots:
        """The same of W_O with the norm's linear part behind it."""
        return self.root if self.norm is None else output_root(self.norm.linear(self.weights))

    @cached_property
    def read_root(self) -> Roots:
        """The same with the readers' linear part behind that."""
        written = self.weights if self.norm is None else self.norm.linear(self.weights)
        return output_root(self._reader.linear(written))

    def total(self, z: HeadVectors) -> Residual:
        """What attention puts out, before any norm: all heads' results, and b_O."""
        weights = self.weights.to(z)
        total = einsum(z, weights, "b pos head d_head, head d_head d_model -> b pos d_model")
        return total if self.bias is None else total + self.bias.to(z)

    def written_scale(self, total: Residual) -> PerPosition:
        """What every head's part is multiplied by, by the norm and after it."""
        if self.multiplier is None:
            raise UserError(
                "what is added to the residual stream after attention is no multiple of attention's "
                "output in this model: what its heads write there is not known"
            )
        if self.norm is None:
            return total.new_full((*total.shape[:2], 1), self.multiplier)
        return self.multiplier * self.norm.scale(total)

    def written(self, total: Residual) -> Residual:
        """What is added to the stream; a norm's own bias is left out."""
        linear = total if self.norm is None else self.norm.linear(total)
        return (linear * self.written_scale(total)).to(total.dtype)

    def read_scale(self, stream: Residual) -> PerPosition:
        """What readers multiply the stream by, over the root of d_model: 1 / |stream|."""
        return self._reader.scale(stream) * stream.shape[-1] ** -0.5

    @cached_property
    def _reader(self) -> Norm:
        if self.reader is None:
            raise UserError("nothing is known of how later layers read what these heads write")
        return self.reader()


def output_root(weights: OutputWeights) -> Roots:
    """A root L of every head's Gram matrix, L Lᵀ = W_O W_Oᵀ, so that |z W_O| = |z L|.

    By Cholesky in float64; where W_O has lost rank, by the slower QR decomposition of W_Oᵀ.
    """
    wide = weights.double()
    gram = einsum(wide, wide, "head i d_model, head j d_model -> head i j")
    root, failed = torch.linalg.cholesky_ex(gram)
    if bool(failed.any()):
        upper = torch.linalg.qr(wide.mT, mode="r").R
        root = rearrange(upper, "head root d_head -> head d_head root")
    return root.float()


def rooted_norm(z: HeadVectors, root: Roots) -> Float[Tensor, "batch pos head"]:
    """``|z root|``: the norm of what the root stands for, with no vector of size d_model formed."""
    rooted = einsum(z, root, "b pos head d_head, head d_head root -> b pos head root")
    return torch.linalg.vector_norm(rooted, dim=-1)
