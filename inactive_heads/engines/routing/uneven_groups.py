"""Query heads that share key/value heads unevenly, as where single heads were removed.

transformers' attention functions give every key/value head the same number of query heads. A layer
in which the numbers differ says which key/value head each of its query heads reads. Keys and values
are cached once, and repeated for the query heads just before attention.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

UNEVEN = {"sdpa": "inactive_heads_uneven_sdpa", "eager": "inactive_heads_uneven_eager"}
"""By attention function, the name under which it is registered for layers with uneven groups."""

_READ = "key_value_head_of"
_HELD = "held_key_value_heads"


def set_read(module: nn.Module, read: Sequence[int] | None) -> None:
    """Let every query head of a layer read one of its key/value heads.

    Args:
        module: the attention module, whose config names a function of `UNEVEN` if groups are.
        read: for each query head, the number of the key/value head that it reads; ascending, and
            each is read by some head. None where groups are even.
    """
    if read is None:
        module._buffers.pop(_READ, None)
        vars(module).pop(_HELD, None)
        return
    device = next(module.parameters()).device
    module.register_buffer(_READ, torch.tensor(read, device=device), persistent=False)
    setattr(module, _HELD, tuple(read.index(one) for one in sorted(set(read))))


def heads_read(module: nn.Module, n_heads: int, n_key_value_heads: int) -> list[int]:
    """For each query head of a layer, the number of the key/value head that it reads.

    Args:
        module: the attention module.
        n_heads: the number of its query heads.
        n_key_value_heads: the number of its key/value heads, if its groups are even.

    Returns:
        As `set_read` takes them; ascending.
    """
    read = module._buffers.get(_READ)
    if read is not None:
        return [int(one) for one in read.tolist()]
    return [head * n_key_value_heads // n_heads for head in range(n_heads)]


def for_query_heads(module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values with one head for every query head, where groups are uneven.

    Args:
        module: the attention module.
        key: ``(batch, kv_head, key, d_key)``.
        value: ``(batch, kv_head, key, d_head)``.

    Returns:
        Both repeated along the heads; as they are in any other layer.
    """
    read = module._buffers.get(_READ)
    return (key, value) if read is None else (key[:, read], value[:, read])


def held_heads(module: nn.Module) -> tuple[int, ...] | None:
    """Where `for_query_heads` puts each key/value head first.

    Args:
        module: the attention module.

    Returns:
        A place for every key/value head of the module; None if its groups are even.
    """
    held: tuple[int, ...] | None = vars(module).get(_HELD)
    return held


def _uneven_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    key, value = for_query_heads(module, key, value)
    attended: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **options
    )
    return attended


def _uneven_eager(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> Any:
    key, value = for_query_heads(module, key, value)
    eager = sys.modules[type(module).__module__].eager_attention_forward  # each model has its own
    return eager(module, query, key, value, attention_mask, **options)


AttentionInterface.register(UNEVEN["sdpa"], _uneven_sdpa)
AttentionInterface.register(UNEVEN["eager"], _uneven_eager)
