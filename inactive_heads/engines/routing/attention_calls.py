"""Calls of PyTorch's functions that are a layer's attention, seen by a function mode.

Attention is a call of ``scaled_dot_product_attention``, or a softmax whose result is then multiplied
with value vectors.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.routing.hf_attention import check_finite, check_groups
from inactive_heads.engines.routing.refusals import subject_of, unsupported

PRODUCTS = ("matmul", "bmm", "einsum")
"""Functions that can weigh values; Python's ``@`` is the first."""

SUM_TOLERANCE = 0.05
"""How far a query's weights may sum from 1: more than what rounding to 16 bits leaves."""

Answer = Callable[[nn.Module, AttentionInputs], HeadVectors]
"""Returns z, ``(batch, pos, head, d_head)``, given an attention module and its inputs."""


class _Softmax(NamedTuple):
    """A softmax that has no product with values yet.

    Attributes:
        module: the module that it was computed in.
        n_weights: how many numbers it gave.
        n_keys: over how many each of them sums to 1.
    """

    module: nn.Module
    n_weights: int
    n_keys: int


class AttentionCalls(TorchFunctionMode):
    """Sees the calls that are attention, in the innermost of the modules that are watched.

    Here the functions are called as they are; subclasses do otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running: list[nn.Module] = []
        self._softmax: _Softmax | None = None

    @contextmanager
    def within(self, modules: Sequence[nn.Module]) -> Iterator[None]:
        """A context in which calls in some modules are seen.

        Args:
            modules: the modules to watch.
        """
        with ExitStack() as stack:
            for module in modules:
                stack.callback(module.register_forward_pre_hook(self._enter).remove)
                leave = module.register_forward_hook(self._leave, always_call=True)
                stack.callback(leave.remove)
            stack.enter_context(self)
            yield

    def fused(self, module: nn.Module, func: Any, *args: Any, **options: Any) -> Tensor:
        """What ``scaled_dot_product_attention`` shall return.

        Args:
            module: the attention module.
            func: the function.
            args: its arguments.
            options: its keywords.
        """
        attended: Tensor = func(*args, **options)
        return attended

    def product(self, module: nn.Module, func: Any, *args: Any, **options: Any) -> Tensor:
        """What a product of attention weights with value vectors shall return.

        Args:
            module: the attention module.
            func: the function, one of `PRODUCTS`.
            args: its arguments.
            options: its keywords.
        """
        summed: Tensor = func(*args, **options)
        return summed

    def _enter(self, module: nn.Module, _args: object) -> None:
        self._running.append(module)

    def _leave(self, _module: nn.Module, _args: object, _output: object) -> None:
        self._running.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if not self._running:
            return func(*args, **options)
        name, module = _name_of(func), self._running[-1]
        if name == "scaled_dot_product_attention":
            return self.fused(module, func, *args, **options)
        if name in PRODUCTS and self._weighs_values(module, args, options):
            self._softmax = None
            return self.product(module, func, *args, **options)
        result = func(*args, **options)
        if name == "softmax":
            self._softmax = _Softmax(module, result.numel(), result.shape[-1])
        return result

    def _weighs_values(self, module: nn.Module, args: Any, options: dict[str, Any]) -> bool:
        """Whether the first factor is the weights of the softmax, perhaps in another shape."""
        if self._softmax is None:
            return False
        factors = _factors(*args, *options.values())
        if len(factors) != 2 or factors[0].ndim not in (3, 4):
            return False
        return self._softmax == _Softmax(module, factors[0].numel(), factors[0].shape[-1])


class NoticedCalls(AttentionCalls):
    """Notes the modules that compute attention.

    Attributes:
        modules: those that have, in the order of their calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.modules: list[nn.Module] = []

    def fused(self, module: nn.Module, func: Any, *args: Any, **options: Any) -> Tensor:
        self.modules.append(module)
        return super().fused(module, func, *args, **options)

    def product(self, module: nn.Module, func: Any, *args: Any, **options: Any) -> Tensor:
        self.modules.append(module)
        return super().product(module, func, *args, **options)


class CheckedCalls(AttentionCalls):
    """Lets PyTorch's kernels for the CPU hide no NaN.

    Args:
        batch: the inputs that are run.
    """

    def __init__(self, batch: TokenBatch) -> None:
        super().__init__()
        self._batch = batch

    def fused(self, module: nn.Module, func: Any, *args: Any, **options: Any) -> Tensor:
        query, key = _factors(*args, *options.values())[:2]
        check_finite(query, key, self._batch)
        return super().fused(module, func, *args, **options)


class AnsweredCalls(AttentionCalls):
    """Has attention computed by another function.

    Args:
        batch: the inputs that are run.
        answer: computes it.
    """

    def __init__(self, batch: TokenBatch, answer: Answer) -> None:
        super().__init__()
        self._batch, self._answer = batch, answer

    def fused(
        self,
        module: nn.Module,
        func: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **options: Any,
    ) -> Tensor:
        if query.ndim != 4 or len(query) != len(self._batch.rows):
            raise unsupported(
                subject_of(module), f"attends with queries of shape {tuple(query.shape)}"
            )
        if dropout_p:
            raise unsupported(
                subject_of(module), f"drops attention weights at random ({dropout_p})"
            )
        check_groups(module, query, key, value)
        n_queries, n_keys = query.shape[2], key.shape[2]
        plain = is_causal and n_queries == n_keys
        if attn_mask is None and not plain:
            attn_mask = query.new_ones(n_queries, n_keys, dtype=torch.bool)
            attn_mask = attn_mask.tril() if is_causal else attn_mask
        if attn_mask is not None:
            attn_mask = attn_mask[(None,) * (4 - attn_mask.ndim)]
            attn_mask = attn_mask.expand(*attn_mask.shape[:2], n_queries, n_keys)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        inputs = AttentionInputs(query, key, value, scale, self._batch.first, attn_mask)
        return rearrange(self._answer(module, inputs), "b pos head d -> b head pos d")

    def product(self, module: nn.Module, func: Any, *args: Any, **options: Any) -> Tensor:
        weights, values = _factors(*args, *options.values())
        if _name_of(func) == "einsum":
            return self._einsum(module, str(args[0]), weights, values)
        return self._weighted_sum(module, weights, values)

    def _einsum(self, module: nn.Module, equation: str, weights: Tensor, values: Tensor) -> Tensor:
        """A product of attention weights with value vectors, axes in any order."""
        left, right, result = _letters(equation, weights.ndim)
        *leading, query, key = list(left) if len(left) == weights.ndim else ["?", "?"]
        d_head = "".join(set(right) - set(left))
        by_head, of_result = [*leading, key, d_head], [*leading, query, d_head]
        if sorted(by_head) != sorted(right) or sorted(of_result) != sorted(result):
            raise unsupported(subject_of(module), f"weighs values by einsum {equation!r}")
        ordered = values.permute([right.index(letter) for letter in by_head])
        summed = self._weighted_sum(module, weights, ordered)
        return summed.permute([of_result.index(letter) for letter in result])

    def _weighted_sum(self, module: nn.Module, weights: Tensor, values: Tensor) -> Tensor:
        """A product of attention weights with value vectors, ``(…, query, key) @ (…, key, d)``."""
        n_inputs, stacked = len(self._batch.rows), weights.ndim == 3
        if stacked:  # heads of all inputs in one axis
            if weights.shape[0] % n_inputs or values.shape[0] % n_inputs:
                raise unsupported(subject_of(module), f"weighs values by {tuple(weights.shape)}")
            weights = weights.unflatten(0, (n_inputs, -1))
            values = values.unflatten(0, (n_inputs, -1))
        batch, n_heads, n_queries, n_keys = weights.shape
        if batch != n_inputs or values.ndim != 4 or values.shape[:3:2] != (n_inputs, n_keys):
            raise unsupported(
                subject_of(module),
                f"weighs values of shape {tuple(values.shape)} by {tuple(weights.shape)}",
            )
        self._check_sums(module, weights)
        inputs = AttentionInputs(
            query=values.new_zeros(batch, n_heads, n_queries, 1),
            key=values.new_zeros(batch, values.shape[1], n_keys, 1),
            value=values,
            scale=1.0,
            first=self._batch.first,
            # Zero in rows of padding, of which nothing is seen.
            mask=weights.float().log().clamp(min=torch.finfo(torch.float32).min),
        )
        check_groups(module, inputs.query, inputs.key, values)
        z = rearrange(self._answer(module, inputs), "b pos head d -> b head pos d")
        return z.flatten(0, 1) if stacked else z.contiguous()

    def _check_sums(self, module: nn.Module, weights: Tensor) -> None:
        """Raise an error if weights were scaled, or dropped, after the softmax; NaN is not one.

        Here they would be taken for a softmax's, which sum to 1.
        """
        off = (weights.float().sum(dim=-1) - 1).abs() > SUM_TOLERANCE
        if (
            off.shape[2] == self._batch.mask.shape[1]
        ):  # else tokens after a cache, none of them padding
            off = off & self._batch.mask[:, None].to(off.device)
        if bool(off.any()):
            raise unsupported(subject_of(module), "scales attention weights after the softmax")


def _letters(equation: str, n_axes: int) -> tuple[str, str, str]:
    """The axes of both factors and of the result of an ``einsum``; empty if it does not name them.

    Args:
        equation: as given to ``einsum``; an ellipsis becomes letters.
        n_axes: of the first factor.
    """
    equation = equation.replace(" ", "")
    factors, _, result = equation.partition("->")
    left, _, right = factors.partition(",")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    others = "".join(free[: n_axes - len(left.replace("...", ""))])
    expanded = [one.replace("...", others) for one in (left, right, result)]
    return expanded[0], expanded[1], expanded[2]


def _name_of(func: Any) -> str:
    return str(getattr(func, "__name__", "")).strip("_")


def _factors(*arguments: Any) -> list[Tensor]:
    """The tensors among a function's arguments, which ``einsum`` may get as a list."""
    flat = [
        one
        for given in arguments
        for one in (given if isinstance(given, list | tuple) else [given])
    ]
    return [one for one in flat if isinstance(one, Tensor)]
