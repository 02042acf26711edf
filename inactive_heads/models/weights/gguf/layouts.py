"""Undoes the ways in which llama.cpp lays weights out anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from transformers import PretrainedConfig

Layout = Callable[[PretrainedConfig, list[Tensor]], Tensor]


@dataclass(frozen=True)
class Made:
    """A weight that is not stored as it is.

    Attributes:
        sources: the tensors of the file that it is made of; without ".weight" or ".bias" where the
            weight's own ending stands for theirs.
        layout: makes the weight of them.
    """

    sources: tuple[str, ...]
    layout: Layout


def unchanged(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """The tensor as it is."""
    return stored[0]


def minus_one(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """Norms that multiply by 1 + weight are stored as 1 + weight."""
    return stored[0] - 1


def transposed(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """Matrices the other way round; biases as they are."""
    return stored[0].mT if stored[0].ndim > 1 else stored[0]


def one_row(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """A vector as a matrix of one row."""
    return stored[0].reshape(1, -1)


def kernel(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """The kernel of a convolution, one a channel; biases as they are."""
    return stored[0].unsqueeze(1) if stored[0].ndim > 1 else stored[0]


def stacked_rows(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """The experts' two matrices, one above the other."""
    return torch.cat(stored, dim=1)


def interleaved(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """Vectors of which the elements alternate."""
    return torch.stack(stored, dim=-1).flatten(-2)


def interleaved_columns(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """The experts' two matrices, transposed, of which the columns alternate."""
    return interleaved(config, [matrix.mT for matrix in stored])


def halves_of_heads(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """q's rows in rotated pairs, from pairs side by side to the two halves of a head."""
    return _halves(stored[0], config.num_attention_heads)


def halves_of_key_heads(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """k's rows; see `halves_of_heads`."""
    return _halves(stored[0], config.num_key_value_heads)


def groups_of_heads(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """All q, all k, all v: to groups of some q, their k and their v (Falcon)."""
    groups = config.num_kv_heads if config.new_decoder_architecture else 1
    n_heads = config.num_attention_heads
    heads = rearrange(stored[0], "(h d) ... -> h d ...", h=n_heads + 2 * groups)
    q, k, v = heads.split([n_heads, groups, groups])
    grouped = [rearrange(each, "(g h) d ... -> g h d ...", g=groups) for each in (q, k, v)]
    return rearrange(torch.cat(grouped, dim=1), "g h d ... -> (g h d) ...")


def qkv_of_heads(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """All q, all k, all v: to q, k and v of one head after another (BLOOM)."""
    return rearrange(stored[0], "(k h d) ... -> (h k d) ...", k=3, h=config.n_head)


def log_of_minus(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """Decays, stored as -exp(weight), one a value head (Qwen 3.5)."""
    return by_key_head(config, [torch.log(-stored[0])])


def by_key_head(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """Some rows a value head: value heads of one key head come together again (Qwen 3.5)."""
    return _grouped(config, stored[0])


def qkv_by_key_head(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """q, k and v, of which v is in another order; see `by_key_head`."""
    n_rows = 2 * config.linear_num_key_heads * config.linear_key_head_dim
    return torch.cat([stored[0][:n_rows], _grouped(config, stored[0][n_rows:])])


def kernel_by_key_head(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """The kernel of the convolution over q, k and v; see `qkv_by_key_head`."""
    return qkv_by_key_head(config, stored).unsqueeze(1)


def columns_by_key_head(config: PretrainedConfig, stored: list[Tensor]) -> Tensor:
    """Some columns a value head; see `by_key_head`."""
    return _grouped(config, stored[0].mT).mT


def _halves(stored: Tensor, n_heads: int) -> Tensor:
    return rearrange(stored, "(h d two) ... -> (h two d) ...", h=n_heads, two=2)


def _grouped(config: PretrainedConfig, stored: Tensor) -> Tensor:
    n_keys = config.linear_num_key_heads
    n_values = config.linear_num_value_heads // n_keys
    return rearrange(stored, "(v k d) ... -> (k v d) ...", k=n_keys, v=n_values)
