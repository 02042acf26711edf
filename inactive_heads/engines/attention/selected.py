"""The keys that a model's indexer selects for every query, one by one or in blocks.

transformers' own attention functions get them as a mask, made by the model. A function of another
name gets the numbers of the keys or blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from inactive_heads.engines.attention.inputs import AttentionMask

Selected = Bool[Tensor, "batch head query key"]


def are_numbers(given: Tensor, n_axes: int) -> bool:
    """Whether a tensor can be the numbers of keys or blocks: integers, neither a mask nor scores.

    Args:
        given: the tensor.
        n_axes: how many axes it must have.
    """
    whole = not given.is_floating_point() and given.dtype != torch.bool
    return whole and given.ndim == n_axes


def selected_keys(indices: Int[Tensor, "batch query selected"], n_keys: int) -> Selected:
    """True at the keys that are selected for a query.

    Args:
        indices: numbers of the selected keys, in any order.
        n_keys: how many keys there are.

    Returns:
        ``(batch, 1, query, key)``, for all heads.
    """
    batch, length, _ = indices.shape
    chosen = torch.zeros(batch, length, n_keys, dtype=torch.bool, device=indices.device)
    return chosen.scatter(-1, indices.long(), True)[:, None]


@dataclass(frozen=True, eq=False)
class SelectedBlocks:
    """Blocks of adjacent keys that are selected for a query, block 0 from the first key on.

    Attributes:
        blocks: numbers of the selected blocks, ``(batch, head, query, selected)``, in any order; -1
            where fewer are selected. Adjacent query heads may share a selection.
        indexer: the module that selected them, which knows how many keys a block has.
    """

    blocks: Tensor
    indexer: object

    @property
    def size(self) -> int | None:
        """How many keys a block has: where transformers' own block-sparse attention reads it."""
        size = getattr(self.indexer, "block_size", None)
        return size if isinstance(size, int) else None

    def fault(self, n_heads: int) -> str | None:
        """Why the selection cannot be applied.

        Args:
            n_heads: how many query heads there are.

        Returns:
            A predicate of the layer; None if it can.
        """
        if self.size is None:
            return "gives its attention block_indices without a block_size"
        if not are_numbers(self.blocks, 4) or n_heads % self.blocks.shape[1]:
            of = f"shape {tuple(self.blocks.shape)} and {self.blocks.dtype}"
            return f"gives {n_heads} heads block_indices of {of}"
        return None

    def keys(self, n_keys: int) -> Selected:
        """True at the keys of the blocks that are selected for a query.

        Args:
            n_keys: how many keys there are. The last block may be cut short.

        Returns:
            ``(batch, head, query, key)``, with as many heads as ``blocks``.
        """
        size = self.size
        assert size is not None, "a selection with a fault is not applied"
        n_blocks = -(-n_keys // size)
        of_blocks = self.blocks.new_zeros(*self.blocks.shape[:3], n_blocks + 1, dtype=torch.bool)
        of_blocks.scatter_(-1, self.blocks.masked_fill(self.blocks < 0, n_blocks).long(), True)
        return of_blocks[..., :n_blocks].repeat_interleave(size, dim=-1)[..., :n_keys]


def only_selected(mask: AttentionMask | None, selected: Selected) -> AttentionMask:
    """A mask without the keys that are not selected.

    Args:
        mask: true where a query may attend to a key, or numbers to add to the logits, the same for
            all heads; None for a plain causal mask.
        selected: true at the selected keys.

    Returns:
        The mask, of the same kind, with the heads of ``selected``.
    """
    if mask is None:
        length, n_keys = selected.shape[2:]
        return selected.tril(n_keys - length)
    if mask.dtype == torch.bool:
        return mask & selected
    return mask.masked_fill(~selected, torch.finfo(mask.dtype).min)


def for_every_head(mask: AttentionMask, n_heads: int) -> AttentionMask:
    """A mask whose heads are repeated for the adjacent query heads that share them.

    Args:
        mask: with 1 head, or a number of heads that divides ``n_heads``.
        n_heads: how many query heads there are.

    Returns:
        The mask itself if it has 1 or ``n_heads`` heads, else one with ``n_heads``.
    """
    if mask.shape[1] in (1, n_heads):
        return mask
    return mask.repeat_interleave(n_heads // mask.shape[1], dim=1)
