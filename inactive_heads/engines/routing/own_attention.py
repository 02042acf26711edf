"""Attention that a model computes by itself, without transformers' attention interface.

Falcon calls PyTorch's ``scaled_dot_product_attention``; MVP, TrOCR and the relatives of BERT multiply
the result of a softmax with value vectors. Both are calls of PyTorch's functions, which a function
mode sees and answers. Attention weights are then the model's own: their logarithms stand where
other models have queries and keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.pytorch_utils import Conv1D

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.routing.hf_attention import AttentionHandler, check_finite, unsupported

PRODUCTS = ("matmul", "bmm", "einsum")
"""Functions that can weigh values; Python's ``@`` is the first."""

Answer = Callable[[nn.Module, AttentionInputs], HeadVectors]


@dataclass(frozen=True, eq=False)
class OwnAttention:
    """Where the attention of a model is that computes it by itself.

    Attributes:
        modules: those that may compute attention: the parts of the model with linear layers.
        groups: by attention module, how many query heads share a key/value head whose vectors the
            module repeats for them.
    """

    modules: Sequence[nn.Module]
    groups: dict[nn.Module, int] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module) -> OwnAttention:
        """All parts of a model that may compute attention.

        Args:
            network: the model.
        """
        return cls([one for one in network.modules() if one is not network and _has_linear(one)])

    def of_seen(self) -> OwnAttention:
        """Those parts that have computed attention since, for faster runs."""
        return OwnAttention(list(self.groups), self.groups)

    @contextmanager
    def route(self, handler: AttentionHandler) -> Iterator[None]:
        """A context in which the model's attention is computed by a handler.

        Args:
            handler: computes it; its mask is not used, as the model makes its own.

        Raises:
            Unsupported: a module that has computed attention before does not now.
        """
        expected, seen = set(self.groups), set()

        def answer(module: nn.Module, inputs: AttentionInputs) -> HeadVectors:
            seen.add(module)
            return handler.visit(module, self._grouped(module, inputs))

        with self._caught(handler.batch, answer):
            yield
        if missing := expected - seen:
            names = sorted(_name(module) for module in missing)
            raise unsupported(names[0], "computes its attention in another way for these inputs")

    @contextmanager
    def checked(self, batch: TokenBatch) -> Iterator[None]:
        """A context in which PyTorch's kernels for the CPU hide no NaN of the model's attention.

        Args:
            batch: the inputs that will be run.
        """
        with self._caught(batch, None):
            yield

    @contextmanager
    def _caught(
        self,
        batch: TokenBatch,
        answer: Answer | None,
    ) -> Iterator[None]:
        mode = _Catching(batch, answer)
        with ExitStack() as stack:
            for module in self.modules:
                stack.callback(module.register_forward_pre_hook(mode.enter).remove)
                leave = module.register_forward_hook(mode.leave, always_call=True)
                stack.callback(leave.remove)
            stack.enter_context(mode)
            yield

    def _grouped(self, module: nn.Module, inputs: AttentionInputs) -> AttentionInputs:
        """Keys and values once, if the module repeats them for the query heads that share them."""
        if module not in self.groups:
            self.groups[module] = _group(inputs.key, inputs.value)
        group = self.groups[module]
        return inputs if group == 1 else inputs.with_one_of(group)


def _group(key: Tensor, value: Tensor) -> int:
    """How many adjacent key/value heads are copies of one, throughout the layer."""
    n_heads = value.shape[1]
    alike = [
        all(torch.equal(one[:, 0], one[:, head]) for one in (key, value)) for head in range(n_heads)
    ]
    group = next((head for head, same in enumerate(alike) if not same), n_heads)
    if n_heads % group:
        return 1
    split = value.unflatten(1, (-1, group))
    # Heads whose values are zero are not copies of each other.
    copies = torch.equal(split, split[:, :, :1].expand_as(split)) and split.any(dim=(0, 2, 3, 4))
    return group if bool(torch.as_tensor(copies).all()) else 1


def _has_linear(module: nn.Module) -> bool:
    return any(isinstance(one, nn.Linear | Conv1D) for one in module.modules() if one is not module)


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


class _Catching(TorchFunctionMode):
    """Answers the calls of PyTorch's functions that are a layer's attention.

    Args:
        batch: the inputs that are run.
        answer: returns z, given the attention module and its inputs; None checks the inputs of
            PyTorch's kernels only.
    """

    def __init__(self, batch: TokenBatch, answer: Answer | None) -> None:
        super().__init__()
        self._batch, self._answer = batch, answer
        self._running: list[nn.Module] = []
        self._softmax: _Softmax | None = None

    def enter(self, module: nn.Module, _args: object) -> None:
        """A hook that a module calls before it runs."""
        self._running.append(module)

    def leave(self, _module: nn.Module, _args: object, _output: object) -> None:
        """A hook that a module calls when it has run."""
        self._running.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, options = getattr(func, "__name__", "").strip("_"), kwargs or {}
        if not self._running:
            return func(*args, **options)
        if name == "scaled_dot_product_attention":
            return self._fused(func, *args, **options)
        if self._answer is None:
            return func(*args, **options)
        if name == "softmax":
            weights = func(*args, **options)
            self._softmax = _Softmax(self._running[-1], weights.numel(), weights.shape[-1])
            return weights
        if self._softmax is not None and name in PRODUCTS:
            factors = _factors(*args, *options.values())
            if len(factors) == 2 and self._weighs_values(factors[0]):
                self._softmax = None
                if name == "einsum":
                    return self._einsum(self._answer, args[0], *factors)
                return self._product(self._answer, *factors)
        return func(*args, **options)

    def _fused(
        self,
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
        """PyTorch's ``scaled_dot_product_attention``."""
        module = self._running[-1]
        if self._answer is None:
            check_finite(query, key, self._batch)
            options |= {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale}
            attended: Tensor = func(query, key, value, attn_mask, **options)
            return attended
        if query.ndim != 4 or len(query) != len(self._batch.rows):
            raise unsupported(_name(module), f"attends with queries of shape {tuple(query.shape)}")
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

    def _weighs_values(self, weights: Tensor) -> bool:
        """Whether these are the weights of the softmax, perhaps in another dtype or shape."""
        softmax = self._softmax
        return (
            softmax is not None
            and softmax.module is self._running[-1]
            and weights.ndim in (3, 4)
            and (weights.numel(), weights.shape[-1]) == (softmax.n_weights, softmax.n_keys)
        )

    def _einsum(self, answer: Answer, equation: str, weights: Tensor, values: Tensor) -> Tensor:
        """A product of attention weights with value vectors, axes in any order."""
        left, right, result = re.split(",|->", equation.replace(" ", ""))
        *leading, query, key = list(left)
        d_head = "".join(set(right) - set(left))
        by_head, of_result = [*leading, key, d_head], [*leading, query, d_head]
        if sorted(by_head) != sorted(right) or sorted(of_result) != sorted(result):
            raise unsupported(_name(self._running[-1]), f"weighs values by einsum {equation!r}")
        ordered = values.permute([right.index(letter) for letter in by_head])
        summed = self._product(answer, weights, ordered)
        return summed.permute([of_result.index(letter) for letter in result])

    def _product(self, answer: Answer, weights: Tensor, values: Tensor) -> Tensor:
        """A product of attention weights with value vectors, ``(…, query, key) @ (…, key, d)``."""
        module, n_inputs = self._running[-1], len(self._batch.rows)
        stacked = weights.ndim == 3
        if stacked:  # heads of all inputs in one axis
            if weights.shape[0] % n_inputs or values.shape[0] % n_inputs:
                raise unsupported(_name(module), f"weighs values by {tuple(weights.shape)}")
            weights = weights.unflatten(0, (n_inputs, -1))
            values = values.unflatten(0, (n_inputs, -1))
        batch, n_heads, n_queries, n_keys = weights.shape
        if batch != n_inputs or values.ndim != 4 or values.shape[:3:2] != (n_inputs, n_keys):
            raise unsupported(
                _name(module),
                f"weighs values of shape {tuple(values.shape)} by {tuple(weights.shape)}",
            )
        inputs = AttentionInputs(
            query=values.new_zeros(batch, n_heads, n_queries, 1),
            key=values.new_zeros(batch, values.shape[1], n_keys, 1),
            value=values,
            scale=1.0,
            first=self._batch.first,
            # Zero in rows of padding, of which nothing is seen.
            mask=weights.float().log().clamp(min=torch.finfo(torch.float32).min),
        )
        z = rearrange(answer(module, inputs), "b pos head d -> b head pos d")
        return z.flatten(0, 1) if stacked else z.contiguous()


def _factors(*arguments: Any) -> list[Tensor]:
    """The tensors among a function's arguments, which ``einsum`` may get as a list."""
    flat = [
        one
        for given in arguments
        for one in (given if isinstance(given, list | tuple) else [given])
    ]
    return [one for one in flat if isinstance(one, Tensor)]


def _name(module: nn.Module) -> str:
    return f"a layer {type(module).__name__}"
