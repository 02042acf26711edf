"""The inputs of one layer's attention: queries, keys, values, their scale and their mask."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jaxtyping import Bool, Float
from torch import Tensor

from inactive_heads.core.tensor_types import PerRow

Queries = Float[Tensor, "batch head query d_key"]
Keys = Float[Tensor, "batch kv_head key d_key"]
Values = Float[Tensor, "batch kv_head key d_head"]
AttentionMask = Bool[Tensor, "_ _ query key"] | Float[Tensor, "_ _ query key"]


@dataclass(frozen=True, eq=False)
class AttentionInputs:
    """The inputs of one layer's attention, after rotary embedding and before the softmax.

    Queries, keys and values have the model's dtype. Query heads that share a key/value head are
    adjacent.

    Attributes:
        query: ``(batch, head, query, d_key)``.
        key: ``(batch, kv_head, key, d_key)``.
        value: ``(batch, kv_head, key, d_head)``.
        scale: the factor on q·k.
        first: position of each input's first real token, ``(batch,)``; may be on another device.
        mask: true where a query may attend to a key, or numbers to add to the logits; None for a
            plain causal mask. Its first two axes are of size 1 or batch and head.
        softcap: logits become ``softcap · tanh(logits / softcap)``; None without.
        sinks: one logit per head that takes part in the softmax and belongs to no token; None
            without.
    """

    query: Queries = field(repr=False)
    key: Keys = field(repr=False)
    value: Values = field(repr=False)
    scale: float
    first: PerRow
    mask: AttentionMask | None = field(default=None, repr=False)
    softcap: float | None = None
    sinks: Float[Tensor, " head"] | None = field(default=None, repr=False)

    @property
    def plain(self) -> bool:
        """Whether this is a plain causal softmax: no mask, soft cap or sinks."""
        return self.mask is None and self.softcap is None and self.sinks is None

    def of_head(self, head: int) -> AttentionInputs:
        """The inputs of one head, with the key/value head that it shares.

        Args:
            head: the query head's number in the layer.

        Returns:
            Views with one query head and one key/value head.
        """
        query_head = slice(head, head + 1)
        shared = head // (self.query.shape[1] // self.key.shape[1])
        kv_head = slice(shared, shared + 1)
        mask = self.mask
        return replace(
            self,
            query=self.query[:, query_head],
            key=self.key[:, kv_head],
            value=self.value[:, kv_head],
            mask=mask if mask is None or mask.shape[1] == 1 else mask[:, query_head],
            sinks=None if self.sinks is None else self.sinks[query_head],
        )
