"""Inputs of unequal length as one rectangle of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import reduce

from inactive_heads.core.tensor_types import (
    PerRow,
    TokenMask,
    Tokens,
)


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Inputs of unequal length as one rectangle: ``mask`` is true at real tokens.

    Padding may stand on either side of an input, not inside it. ``rows`` names the inputs,
    for whoever treats them differently (`Random` draws by it).

    Raises:
        ValueError: an input without a token, or with padding between its tokens.
    """

    tokens: Tokens
    mask: TokenMask
    rows: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.tokens.shape != self.mask.shape:
            raise ValueError(
                f"tokens have shape {tuple(self.tokens.shape)}, their mask {tuple(self.mask.shape)}"
            )
        if not self.rows:
            object.__setattr__(self, "rows", range(len(self.tokens)))
        for row, n in enumerate(self.n_tokens.tolist()):
            if n == 0:
                raise ValueError(f"input {self.rows[row]} of the batch has no tokens")
        span = self.last - self.first + 1
        for row in torch.nonzero(span != self.n_tokens).flatten().tolist():
            raise ValueError(
                f"the attention mask of input {self.rows[row]} has a hole: {int(self.n_tokens[row])} "
                f"real tokens spread over {int(span[row])} positions; pad on one side only"
            )

    @staticmethod
    def of(
        samples: Sequence[Sequence[int]],
        *,
        rows: Sequence[int] = (),
        pad: int = 0,
        side: str = "right",
        device: torch.device | str = "cpu",
    ) -> TokenBatch:
        """The samples (token ids), padded to the longest on the given ``side``."""
        width = max(len(sample) for sample in samples)
        tokens = torch.full((len(samples), width), pad, dtype=torch.long)
        mask = torch.zeros((len(samples), width), dtype=torch.bool)
        for row, sample in enumerate(samples):
            span = slice(0, len(sample)) if side == "right" else slice(width - len(sample), width)
            tokens[row, span] = torch.as_tensor(sample, dtype=torch.long)
            mask[row, span] = True
        return TokenBatch(tokens.to(device), mask.to(device), rows)

    @cached_property
    def n_tokens(self) -> PerRow:
        return reduce(self.mask.long(), "batch pos -> batch", "sum")

    @cached_property
    def first(self) -> PerRow:
        """Position of each input's first real token."""
        return self.mask.long().argmax(dim=1)

    @cached_property
    def last(self) -> PerRow:
        """Position of each input's last real token."""
        return self.mask.shape[1] - 1 - self.mask.flip(1).long().argmax(dim=1)

    @cached_property
    def padded_left(self) -> bool:
        """Whether padding stands before any input: only then do real tokens see it."""
        return bool((self.first > 0).any())

    @cached_property
    def unpadded(self) -> bool:
        """Whether all inputs are of one length."""
        return bool(self.mask.all())

    @cached_property
    def keep_last(self) -> TokenMask:
        """True at each input's last token."""
        positions = torch.arange(self.mask.shape[1], device=self.mask.device)
        return positions[None, :] == self.last[:, None]
