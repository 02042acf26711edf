"""Decoding one token at a time with a key/value cache, under heads silenced by a fixed rule."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.settings import default_settings
from inactive_heads.core.tensor_types import HeadVectors, Logits, TokenMask, Tokens
from inactive_heads.engines.attention.attend import attend, flash_attention
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.base import LayerSilences, Silence, checked_answer
from inactive_heads.engines.finite import check_logits
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.network.forward_pass import only_kept
from inactive_heads.errors import NotFinite


class CachedDecoding:
    """Next-token logits of inputs that grow by one token at a time; each token is run once.

        decoding = CachedDecoding(engine, TokenBatch.of(prompts, side="left"), lambda layer: None)
        logits = decoding.start()
        logits = decoding.step(logits.argmax(dim=-1))

    The same heads are silenced at every step. Where rotary angles depend on an input's length and
    an input grows into other angles, the cache is made anew: all logits are those of whole inputs.

    Args:
        engine: runs the model.
        batch: the inputs, padded on the left only, on the engine's device.
        silences: returns the heads to silence in a layer, with one row for each input or one for
            all; or None.
    """

    def __init__(self, engine: FlashEngine, batch: TokenBatch, silences: LayerSilences) -> None:
        self._engine, self._batch, self._silences = engine, batch, silences
        self._tokens: Tokens = batch.tokens[:, :0]
        self._mask: TokenMask = batch.mask[:, :0]
        self._cache = DynamicCache(config=engine.network.config)
        self._angles: list[Hashable] = []
        forward = inspect.signature(engine.network.forward)
        self._takes_positions = "position_ids" in forward.parameters

    @property
    def device(self) -> torch.device:
        """The device on which the model takes its tokens."""
        return self._engine.device

    def start(self) -> Logits:
        """Run the inputs. Call it once, before any `step`.

        Returns:
            Next-token logits after each input's last token, ``(batch, d_vocab)``, float32.

        Raises:
            UserError: logits are not finite.
        """
        return self._run(self._batch.tokens, self._batch.mask)

    def step(self, tokens: Tensor) -> Logits:
        """Append one token to every input and run it.

        Args:
            tokens: token ids, ``(batch,)``, on `device`.

        Returns:
            Next-token logits after these tokens, ``(batch, d_vocab)``, float32.

        Raises:
            UserError: logits are not finite.
        """
        return self._run(tokens[:, None], torch.ones_like(tokens[:, None], dtype=torch.bool))

    @default_settings()
    def _run(self, tokens: Tokens, mask: TokenMask) -> Logits:
        self._tokens = torch.cat([self._tokens, tokens], dim=1)
        self._mask = torch.cat([self._mask, mask], dim=1)
        angles = [self._engine.angles.kind(n) for n in self._lengths()]
        if angles != self._angles:
            # Keys in the cache, if any, are rotated by other angles.
            self._cache = DynamicCache(config=self._engine.network.config)
            self._angles, tokens, mask = angles, self._tokens, self._mask
        arguments = {"attention_mask": self._mask.long()}
        if self._takes_positions:
            positions = (self._mask.long().cumsum(dim=1) - 1).clamp(min=0)
            arguments["position_ids"] = positions[:, -tokens.shape[1] :]
        last = torch.zeros_like(mask)
        last[:, -1] = True
        try:
            with (
                self._engine.attending(self._batch, self._attend, self._lengths) as network,
                only_kept(network.get_output_embeddings(), last),
            ):
                output = network(tokens, past_key_values=self._cache, use_cache=True, **arguments)
                return check_logits(output.logits[0].float(), self._batch.rows.__getitem__)
        except NotFinite as fault:
            index = list(self._batch.rows).index(fault.row)
            whole = self._tokens[index][self._mask[index]].tolist()
            raise self._engine.located(fault, whole, partial(self._silence_of, index)) from None

    def _lengths(self) -> list[int]:
        """Each input's length so far, in tokens, if anything depends on it."""
        return self._mask.sum(dim=1).tolist() if self._engine.angles else []

    def _silence_of(self, index: int, layer: int) -> Silence | None:
        silence = self._silences(layer)
        if silence is None or len(silence.mask) == 1:
            return silence
        return replace(silence, mask=silence.mask[index][None])

    def _attend(self, module: nn.Module, inputs: AttentionInputs) -> HeadVectors:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        z = _attend_to_all(inputs) if inputs.query.shape[2] == 1 else attend(inputs)[0]
        silence = checked_answer(self._silences(layer), z, layer)
        return z if silence is None else silence.apply(z)


def _attend_to_all(inputs: AttentionInputs) -> HeadVectors:
    """z of the last query alone, which attends to every key unless there is a mask."""
    if inputs.plain:
        query, key, value = inputs.query, inputs.key, inputs.value
        output = flash_attention(query, key, value, inputs.scale, causal=False)
        if output is not None:
            return output[0]
    if inputs.mask is None:
        every_key = inputs.query.new_ones(1, 1, 1, inputs.key.shape[2], dtype=torch.bool)
        inputs = replace(inputs, mask=every_key)
    return attend(inputs)[0]
