"""Inputs of unequal length, padded to one rectangle of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import reduce

from inactive_heads.core.settings import default_settings
from inactive_heads.core.tensor_types import PerRow, TokenMask, Tokens


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Inputs of unequal length, padded to one rectangle of tokens.

    Every input has at least one real token. Padding is before or after an input's tokens,
    never between them; which side may differ from input to input. All tensors are on one device.

        batch = TokenBatch.of([[5, 1, 4], [7]])
        batch.tokens  # [[5, 1, 4], [7, 0, 0]]
        batch.last    # [2, 0]

    Attributes:
        tokens: token ids, ``(batch, pos)``. At padding, any id of the vocabulary.
        mask: ``(batch, pos)``, true at real tokens.
        rows: the number of each input among all inputs of a run, ``(batch,)``. Ablations that
            differ from input to input go by it (`Random` draws by it). 0, 1, … by default.

    Raises:
        ValueError: ``tokens`` and ``mask`` differ in shape, or an input has no token or has padding
            between its tokens.
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
    @default_settings()
    def of(
        samples: Sequence[Sequence[int]],
        *,
        rows: Sequence[int] = (),
        pad: int = 0,
        side: str = "right",
        device: torch.device | str = "cpu",
    ) -> TokenBatch:
        """A batch of the samples, padded to the longest.

        Args:
            samples: token ids, at least one sample.
            rows: the number of each sample among all inputs; 0, 1, … by default.
            pad: the token id at padding; any id of the vocabulary, as no result depends on it.
            side: where padding goes, "right" or "left".
            device: where the tensors are made.

        Returns:
            The batch, ``len(samples)`` by the longest sample's length.

        Raises:
            ValueError: there is no sample, or one without tokens.
        """
        width = max(len(sample) for sample in samples)
        tokens = torch.full((len(samples), width), pad, dtype=torch.long)
        mask = torch.zeros((len(samples), width), dtype=torch.bool)
        for row, sample in enumerate(samples):
            span = slice(0, len(sample)) if side == "right" else slice(width - len(sample), width)
            tokens[row, span] = torch.as_tensor(sample, dtype=torch.long)
            mask[row, span] = True
        return TokenBatch(tokens.to(device), mask.to(device), rows)

    def tokens_of(self, row: int) -> list[int]:
        """An input's real tokens.

        Args:
            row: the input's number among all inputs; one of `rows`.

        Returns:
            Token ids.
        """
        index = list(self.rows).index(row)
        tokens: list[int] = self.tokens[index][self.mask[index]].tolist()
        return tokens

    @cached_property
    def n_tokens(self) -> PerRow:
        """Number of each input's real tokens, ``(batch,)``, int64."""
        return reduce(self.mask.long(), "batch pos -> batch", "sum")

    @cached_property
    def first(self) -> PerRow:
        """Position of each input's first real token, ``(batch,)``, int64."""
        return self.mask.long().argmax(dim=1)

    @cached_property
    def last(self) -> PerRow:
        """Position of each input's last real token, ``(batch,)``, int64."""
        return self.mask.shape[1] - 1 - self.mask.flip(1).long().argmax(dim=1)

    @cached_property
    def padded_left(self) -> bool:
        """Whether any input has padding before it. Only then can real tokens attend to padding."""
        return bool((self.first > 0).any())

    @cached_property
    def unpadded(self) -> bool:
        """Whether there is no padding, because all inputs have the same length."""
        return bool(self.mask.all())

    @cached_property
    def keep_last(self) -> TokenMask:
        """True at each input's last real token, ``(batch, pos)``; the default of ``keep``."""
        positions = torch.arange(self.mask.shape[1], device=self.mask.device)
        return positions[None, :] == self.last[:, None]
