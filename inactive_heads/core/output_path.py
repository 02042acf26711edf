"""How a layer's heads write into the residual stream, and how later layers read it.

Heads write through W_O. Gemma 2 and 3 and OLMo 2 normalise the attention output before adding it
to the stream. Such a norm is linear except for one scale per token, which all heads share, so what
reaches the stream is still a sum over heads. Later layers read the stream through norms of their
own, whose gains weight its coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    """A LayerNorm or RMSNorm: ``gain · (x - mean x) / sqrt(mean (x - mean x)² + eps)``.

    Without the means if not ``centred``. A bias belongs to no head and is left out.

        norm = Norm.of(torch.nn.RMSNorm(16, eps=1e-6))
        normalised = norm.linear(x) * norm.scale(x)

    Attributes:
        gain: one factor per coordinate, ``(d_model,)``; float64 from `of` and `together`.
        eps: added to the mean square.
        centred: True for a LayerNorm, False for an RMSNorm.
    """

    gain: Float[Tensor, " d_model"]
    eps: float
    centred: bool

    @staticmethod
    def of(module: nn.Module, d_model: int | None = None) -> Norm:
        """The norm that a module computes.

        Found by running the module on random vectors, since some models store the gain, others the
        gain minus 1, and others have none.

        Args:
            module: a norm of a Hugging Face or TransformerLens model.
            d_model: width of the residual stream, needed if the module has no weight.

        Returns:
            The norm without its bias, with a float64 gain on the module's device.

        Raises:
            UserError: the module is neither a LayerNorm nor an RMSNorm.
        """
        weight = getattr(module, "weight", getattr(module, "w", None))
        bias = getattr(module, "bias", getattr(module, "b", None))  # TransformerLens 3: w and b
        if weight is None and d_model is not None:
            weight = torch.zeros(d_model)
        if isinstance(weight, Tensor) and weight.ndim == 1:
            generator = torch.Generator().manual_seed(0)
            probe = torch.randn(1, 4, len(weight), generator=generator).to(weight)

            def without_bias(x: Tensor) -> Tensor:
                with torch.no_grad():
                    return module(x).double() - (0 if bias is None else bias)

            expected = without_bias(probe)
            for gain in (weight.detach().double(), weight.detach().double() + 1):
                for centred in (False, True):
                    norm = Norm(gain, 0.0, centred)
                    found = norm.linear(probe) * norm.scale(probe)
                    if bool((found - expected).norm() < 0.01 * expected.norm()):
                        return replace(norm, eps=_eps(module, norm, without_bias))
        raise UserError(
            f"the norm {type(module).__name__} is neither a LayerNorm nor an RMSNorm: what heads "
            "write into the residual stream, or what later layers read there, is not known"
        )

    @staticmethod
    def together(norms: Sequence[Norm], d_model: int) -> Norm:
        """One norm in place of several, whose gain is the root mean square of theirs.

        Args:
            norms: the norms; may be empty.
            d_model: width of the residual stream, used if there are none.

        Returns:
            A norm on the CPU with ``eps`` 0, centred if all of them are. Without any, an RMSNorm of
            gain 1.
        """
        if not norms:
            return Norm(torch.ones(d_model, dtype=torch.float64), 0.0, centred=False)
        gains = torch.stack([norm.gain.cpu() for norm in norms])
        return Norm(gains.square().mean(dim=0).sqrt(), 0.0, all(norm.centred for norm in norms))

    def linear(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """The linear part of the norm: centring and gain, without the scale.

        Args:
            x: any vectors.

        Returns:
            Vectors of the same shape, float64.
        """
        x64 = x.double()
        return self.gain.to(x.device) * (
            x64 - x64.mean(dim=-1, keepdim=True) if self.centred else x64
        )

    def scale(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... 1"]:
        """The factor by which the norm scales every vector: 1 over its root mean square.

        Args:
            x: any vectors.

        Returns:
            ``(..., 1)``, in the dtype of ``x``.
        """
        centred = x - x.mean(dim=-1, keepdim=True) if self.centred else x
        return torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.eps)


def _eps(module: nn.Module, norm: Norm, run: Callable[[Tensor], Tensor]) -> float:
    """What a module adds to the mean square: as it says, or as small vectors show."""
    for name in ("variance_epsilon", "eps"):
        if isinstance(eps := getattr(module, name, None), int | float):
            return float(eps)
    small = 1e-3 * torch.randn(64, len(norm.gain), generator=torch.Generator().manual_seed(0))
    small = small.to(norm.gain)
    linear, found = norm.linear(small), run(small.to(dtype=torch.float32)).double()
    scale = (found * linear).sum(dim=-1) / linear.square().sum(dim=-1)
    eps = scale.square().reciprocal() - norm.scale(small)[..., 0].square().reciprocal()
    return max(0.0, float(eps.mean()))


@dataclass(eq=False)
class OutputPath:
    """How a layer's head outputs z reach the residual stream.

    A layer has one path, which batches and scores share: do not modify its tensors. Roots are
    computed on first access, in float64, and kept in float32.

        path = OutputPath(torch.randn(4, 8, 32))  # 4 heads, d_head 8, d_model 32
        norms = rooted_norm(z, path.root)         # |z W_O|, (batch, pos, head)

    Attributes:
        weights: W_O, one matrix per head, ``(head, d_head, d_model)``, in the model's dtype.
        bias: b_O, ``(d_model,)``, which belongs to no head; None without one.
        norm: the norm that the attention output goes through before it is added to the stream; None
            without one.
        multiplier: the factor on the attention output, after ``norm`` (Granite).
        unknown: why it is not known what the heads write; None if it is.
        reader: returns the norms through which later layers read the stream, combined into one.
            Called when a score first asks, since it inspects every later layer. None if unknown.
    """

    weights: OutputWeights
    bias: Float[Tensor, " d_model"] | None = None
    norm: Norm | None = None
    multiplier: float = 1.0
    unknown: str | None = None
    reader: Callable[[], Norm] | None = None

    @property
    def adds_results(self) -> bool:
        """Whether heads write their results as they are, ``z W_O``."""
        return self.unknown is None and self.norm is None and self.multiplier == 1

    @cached_property
    def root(self) -> Roots:
        """A root of every head's Gram matrix W_O W_Oᵀ, so that ``|z root| = |z W_O|``."""
        return output_root(self.weights)

    @cached_property
    def written_root(self) -> Roots:
        """The root for W_O followed by the linear part of ``norm``."""
        return self.root if self.norm is None else output_root(self.norm.linear(self.weights))

    @cached_property
    def read_root(self) -> Roots:
        """The root for W_O followed by the linear parts of ``norm`` and of the readers' norm.

        Raises:
            UserError: the path has no ``reader``.
        """
        written = self.weights if self.norm is None else self.norm.linear(self.weights)
        return output_root(self._reader.linear(written))

    def total(self, z: HeadVectors) -> Residual:
        """The attention output before any norm: the sum of all heads' results, and b_O.

        Args:
            z: head outputs, ``(batch, pos, head, d_head)``.

        Returns:
            ``(batch, pos, d_model)``, in the dtype of ``z``.
        """
        weights = self.weights.to(z)
        total = einsum(z, weights, "b pos head d_head, head d_head d_model -> b pos d_model")
        return total if self.bias is None else total + self.bias.to(z)

    def written_scale(self, total: Residual) -> PerPosition:
        """The factor on every head's contribution: the scale of ``norm`` times ``multiplier``.

        Args:
            total: the attention output from `total`, ``(batch, pos, d_model)``.

        Returns:
            ``(batch, pos, 1)``, the same for all heads.

        Raises:
            UserError: what the heads write is not known.
        """
        if self.unknown is not None:
            raise UserError(
                f"what these heads write into the residual stream is not known: {self.unknown}"
            )
        if self.norm is None:
            return total.new_full((*total.shape[:2], 1), self.multiplier)
        return self.multiplier * self.norm.scale(total)

    def written(self, total: Residual) -> Residual:
        """What the layer's heads add to the residual stream.

        Args:
            total: the attention output from `total`, ``(batch, pos, d_model)``.

        Returns:
            ``(batch, pos, d_model)``, in the dtype of ``total``, without the norm's bias.

        Raises:
            UserError: as `written_scale`.
        """
        linear = total if self.norm is None else self.norm.linear(total)
        return (linear * self.written_scale(total)).to(total.dtype)

    def read_scale(self, stream: Residual) -> PerPosition:
        """1 / |stream|: the scale of the readers' norm divided by sqrt(d_model).

        Args:
            stream: the residual stream, ``(batch, pos, d_model)``.

        Returns:
            ``(batch, pos, 1)``. If the readers are LayerNorms, |stream| is that of the centred
            stream.

        Raises:
            UserError: the path has no ``reader``.
        """
        return self._reader.scale(stream) * stream.shape[-1] ** -0.5

    @cached_property
    def _reader(self) -> Norm:
        if self.reader is None:
            raise UserError("nothing is known of how later layers read what these heads write")
        return self.reader()


def output_root(weights: OutputWeights) -> Roots:
    """A root L of every head's Gram matrix, L Lᵀ = W_O W_Oᵀ, so that |z W_O| = |z L|.

    Computed in float64 by Cholesky decomposition, or by the slower QR decomposition of W_Oᵀ if a
    head's W_O is rank-deficient.

    Args:
        weights: W_O, ``(head, d_head, d_model)``, in any floating-point dtype.

    Returns:
        ``(head, d_head, root)``, float32.
    """
    w64 = weights.double()
    gram = einsum(w64, w64, "head i d_model, head j d_model -> head i j")
    root, failed = torch.linalg.cholesky_ex(gram)
    if bool(failed.any()):
        upper = torch.linalg.qr(w64.mT, mode="r").R
        root = rearrange(upper, "head root d_head -> head d_head root")
    return root.float()


def rooted_norm(z: HeadVectors, root: Roots) -> Float[Tensor, "batch pos head"]:
    """The norm of z after a linear map, from a root of the map's Gram matrix: ``|z root|``.

    No vector of size d_model is computed.

    Args:
        z: vectors, ``(batch, pos, head, d_head)``, float32.
        root: from `output_root`, ``(head, d_head, root)``, float32.

    Returns:
        ``(batch, pos, head)``, float32.
    """
    rooted = einsum(z, root, "b pos head d_head, head d_head root -> b pos head root")
    return torch.linalg.vector_norm(rooted, dim=-1)
