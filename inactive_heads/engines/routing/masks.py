"""The mask functions that transformers calls for attention that is computed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.masking_utils import sdpa_mask

MaskFunction = Callable[..., Tensor | None]
"""Returns a boolean mask, or None for plainly causal attention, given transformers' keywords."""


def mask_always(**arguments: Any) -> Tensor | None:
    """transformers' mask, made even where attention could be told to be plainly causal.

    Args:
        arguments: transformers' keywords for mask functions.

    Returns:
        ``(batch, 1, query, key)``, true where a query may attend to a key.
    """
    skips = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    return sdpa_mask(**{**arguments, **skips})
