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
AttentionBias = Float[Tensor, "_ _ query key"]
Sinks = Float[Tensor, " head"] | Float[Tensor, "batch head query 1"]


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
            plain causal mask. Its first axis is of size 1 or batch; its second of size 1, head or a
            divisor of it, if adjacent query heads share a mask.
        softcap: logits become ``softcap · tanh(logits / softcap)``; None without.
        sinks: one logit per head, or per head and query, that takes part in the softmax and
            belongs to no token; None without.
        bias: numbers to add to the logits, before the mask; None without. Its first two axes are of
            size 1 or batch and head.
        held: where the model's key/value heads are repeated, one for each query head, as they are
            shared unevenly: the first place of each. None if every one is there once.
    """

    query: Queries = field(repr=False)
    key: Keys = field(repr=False)
    value: Values = field(repr=False)
    scale: float
    first: PerRow
    mask: AttentionMask | None = field(default=None, repr=False)
    softcap: float | None = None
    sinks: Sinks | None = field(default=None, repr=False)
    bias: AttentionBias | None = field(default=None, repr=False)
    held: tuple[int, ...] | None = None

    @property
    def held_once(self) -> tuple[Keys, Values]:
        """Keys and values as the model holds them in its cache, without repetitions."""
        if self.held is None:
            return self.key, self.value
        return self.key[:, list(self.held)], self.value[:, list(self.held)]

    @property
    def plain(self) -> bool:
        """Whether this is a plain causal softmax: no mask, soft cap, sinks or bias."""
        return all(one is None for one in (self.mask, self.softcap, self.sinks, self.bias))

    def beside_tokens(self, n_queries: int, n_keys: int) -> str | None:
        """What the layer does if its queries and keys are not those of single tokens.

        Args:
            n_queries: how many tokens are run, padding included.
            n_keys: how many there are with those before.

        Returns:
            A predicate; None if there is a query and a key for each.
        """
        lengths = ("queries", self.query.shape[2], n_queries), ("keys", self.key.shape[2], n_keys)
        for name, found, n_tokens in lengths:
            if found != n_tokens:
                return f"has {name} that are not single tokens ({found} for {n_tokens} tokens)"
        return None

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
        sinks = self.sinks
        if sinks is not None:
            sinks = sinks[query_head] if sinks.ndim == 1 else sinks[:, query_head]
        mask, bias = self.mask, self.bias
        if bias is not None and bias.shape[1] > 1:
            bias = bias[:, query_head]
        if mask is not None:
            of_head = head * mask.shape[1] // self.query.shape[1]
            mask = mask[:, of_head : of_head + 1]
        return replace(
            self,
            query=self.query[:, query_head],
            key=self.key[:, kv_head],
            value=self.value[:, kv_head],
            mask=mask,
            sinks=sinks,
            bias=bias,
            held=None,
        )

    def with_one_of(self, group: int) -> AttentionInputs:
        """The inputs with every key/value head once, where adjacent ones are copies.

        Args:
            group: the number of copies.

        Returns:
            Views.
        """
        return replace(self, key=self.key[:, ::group], value=self.value[:, ::group])
