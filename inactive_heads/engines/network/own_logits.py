"""The proof that a model in other hands still computes its own logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from inactive_heads.core.tensor_types import Tokens

LENGTH = 16
"""How many tokens the proof takes, if the model takes so many."""


def first_logits(network: PreTrainedModel) -> tuple[Tokens, Tensor]:
    """A model's own logits after a few tokens.

    Args:
        network: the model, in evaluation mode.

    Returns:
        The tokens, ``(1, pos)``, and logits, ``(1, pos, d_vocab)``.
    """
    config = network.config.get_text_config()
    length = min(LENGTH, getattr(config, "max_position_embeddings", LENGTH))
    tokens = torch.arange(1, length + 1, device=network.device)[None] % config.vocab_size
    with torch.no_grad():
        return tokens, network(tokens, use_cache=False).logits.float()


def same_logits(run: Callable[[Tokens], Tensor], tokens: Tokens, own: Tensor) -> bool:
    """Whether a function of tokens gives a model's own logits.

    Args:
        run: returns logits, ``(1, pos, d_vocab)``.
        tokens: from `first_logits`, as ``own``.
        own: the model's logits.

    Returns:
        False if they differ by more than 1%. NaN compares with nothing: logits that are not finite
        count as the same.
    """
    with torch.no_grad():
        difference = (run(tokens).float() - own).norm() / own.norm()
    return not bool(difference > 0.01)
