"""Attention that a model computes by itself, without transformers' attention interface.

Falcon calls PyTorch's ``scaled_dot_product_attention``; MVP, TrOCR and the relatives of BERT multiply
the result of a softmax with value vectors. Both are calls of PyTorch's functions, which a function
mode sees and answers (`attention_calls`). Attention weights are then the model's own: their logarithms
stand where other models have queries and keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.routing.attention_calls import (
    AnsweredCalls,
    CheckedCalls,
    NoticedCalls,
)
from inactive_heads.engines.routing.hf_attention import AttentionHandler


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
        """

        def answer(module: nn.Module, inputs: AttentionInputs) -> HeadVectors:
            return handler.visit(module, self._grouped(module, inputs))

        with AnsweredCalls(handler.batch, answer).within(self.modules):
            yield

    @contextmanager
    def checked(self, batch: TokenBatch) -> Iterator[None]:
        """A context in which PyTorch's kernels for the CPU hide no NaN of the model's attention.

        Args:
            batch: the inputs that will be run.
        """
        with CheckedCalls(batch).within(self.modules):
            yield

    @contextmanager
    def noticed(self) -> Iterator[Sequence[nn.Module]]:
        """A context in which it is noted where the model calls PyTorch's functions for attention.

        Yields:
            The modules that have called them; they are added while the model runs.
        """
        calls = NoticedCalls()
        with calls.within(self.modules):
            yield calls.modules

    def _grouped(self, module: nn.Module, inputs: AttentionInputs) -> AttentionInputs:
        """Keys and values once, if the module repeats them for the query heads that share them."""
        if module not in self.groups:
            self.groups[module] = _group(inputs.key, inputs.value)
        group = self.groups[module]
        return inputs if group == 1 else inputs.with_one_of(group)


def elsewhere(
    network: nn.Module, noticed: Iterable[nn.Module], shown: Sequence[nn.Module]
) -> str | None:
    """Where attention is computed outside the modules that show theirs.

    Args:
        network: the model.
        noticed: the modules that `OwnAttention.noticed` has yielded.
        shown: the attention modules that are known.

    Returns:
        The name of the first such module; None if each is one that shows its attention, or part of
        one, or around one.
    """
    names = {module: name for name, module in network.named_modules()}
    for module in noticed:
        found = names[module]
        if not any(_is_part(found, names[one]) or _is_part(names[one], found) for one in shown):
            return found
    return None


def _is_part(name: str, of: str) -> bool:
    return f"{name}.".startswith(f"{of}.")


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
    copies = torch.equal(split, split[:, :, :1].expand_as(split))
    # Heads whose values are zero are not copies of each other.
    return group if copies and bool(split.any(dim=(0, 2, 3, 4)).all()) else 1


def _has_linear(module: nn.Module) -> bool:
    return any(isinstance(one, nn.Linear | Conv1D) for one in module.modules() if one is not module)
