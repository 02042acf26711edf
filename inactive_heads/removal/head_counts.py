"""The numbers of heads that an attention module and its config hold, by which models reshape."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from inactive_heads.engines.routing.hf_attention import set_implementation
from inactive_heads.engines.routing.uneven_groups import UNEVEN

HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_query_heads")
KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv")
GROUPS = ("num_key_value_groups", "n_rep")
WIDTHS = ("split_size", "all_head_size", "inner_dim")


def set_counts(
    attention: nn.Module, before: Sequence[int], after: Sequence[int], d_head: int
) -> None:
    """Change the numbers of heads in an attention module, and in a config of its own.

    Args:
        attention: the module.
        before: for each query head that it had, the key/value head that it read.
        after: the same for those that it has.
        d_head: width of a head's output.
    """
    heads, key_value_heads, groups = zip(_counts(before), _counts(after), strict=True)
    known = {
        **dict.fromkeys(HEADS, heads),
        **dict.fromkeys(KEY_VALUE_HEADS, key_value_heads),
        **dict.fromkeys(GROUPS, groups),
        **dict.fromkeys(WIDTHS, (heads[0] * d_head, heads[1] * d_head)),
    }
    _change(attention, known)
    config = getattr(attention, "config", None)
    if isinstance(config, PreTrainedConfig):
        own = copy.deepcopy(config)
        vars(attention)["config"] = own
        _change(own, known)
        chosen = config._attn_implementation
        plain = {uneven: name for name, uneven in UNEVEN.items()}.get(chosen, chosen)
        wanted = plain if is_even(after) else UNEVEN[plain]
        if wanted != chosen:
            set_implementation(own, wanted)


def is_even(reads: Sequence[int]) -> bool:
    """Whether key/value heads are read by as many heads each.

    Args:
        reads: for each head, the key/value head that it reads.
    """
    return len(set(Counter(reads).values())) <= 1


def _counts(reads: Sequence[int]) -> tuple[int, int, int]:
    """Query heads, key/value heads, and copies of each that attention makes for its group."""
    n_heads, n_key_value_heads = len(reads), len(set(reads))
    return n_heads, n_key_value_heads, n_heads // n_key_value_heads if is_even(reads) else 1


def _change(owner: Any, known: Mapping[str, tuple[int, int]]) -> None:
    for name, (before, after) in known.items():
        held = getattr(owner, name, None)
        if held is not None and not isinstance(held, bool) and held == before:
            setattr(owner, name, after)
