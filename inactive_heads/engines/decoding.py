"""Decoding one token at a time with a key/value cache, under heads silenced by a fixed rule."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.settings import default_settings
from inactive_heads.core.tensor_types import Logits, TokenMask, Tokens
from inactive_heads.engines.attention.cascade import HALF_ROUNDING, ROUNDING, scales_by_place
from inactive_heads.engines.base import LayerSilences, Silence
from inactive_heads.engines.finite import check_logits
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.flash_runs import StepRun
from inactive_heads.engines.network.forward_pass import only_kept
from inactive_heads.errors import NotFinite, Notice, UserError


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
        self._heads = StepRun(silences)
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
        self._heads.n_tokens = self._tokens.shape[1]
        arguments = {"attention_mask": self._mask.long()}
        if self._takes_positions:
            positions = (self._mask.long().cumsum(dim=1) - 1).clamp(min=0)
            arguments["position_ids"] = positions[:, -tokens.shape[1] :]
        last = torch.zeros_like(mask)
        last[:, -1] = True
        try:
            with (
                self._engine.running(self._batch, self._heads, self._lengths) as network,
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


_can_decode: WeakKeyDictionary[FlashEngine, bool] = WeakKeyDictionary()


def can_decode(engine: FlashEngine) -> bool:
    """Whether a model gives the same logits from a cache, padded on the left, as for whole inputs.

    Decided by a test on a few tokens, made once for each engine. Layers without attention may read
    padding, or keep a state that no cache holds. If the test raises an error, a `Notice` quotes it;
    whole inputs can still be run.

    Args:
        engine: runs the model.

    Returns:
        Whether `CachedDecoding` may be used.
    """
    if engine not in _can_decode:
        try:
            _can_decode[engine] = not scales_by_place(engine.network) and _steps_agree(engine)
        except NotFinite:
            return True  # of these tokens; the run of others says where theirs began
        except (
            UserError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            warnings.warn(
                f"{type(engine.network).__name__} writes text by running all of it for every token, "
                f"which is slower: it cannot use a cache ({type(error).__name__}: {error})",
                Notice,
                stacklevel=2,
            )
            _can_decode[engine] = False
    return _can_decode[engine]


def _steps_agree(engine: FlashEngine) -> bool:
    """Whether two inputs of different length, and one token after each, get the same logits."""
    # Spread over the vocabulary: its first tokens are special.
    a, b, c, d, e, f, g = (engine.shape.d_vocab * n // 8 for n in range(1, 8))
    inputs, after = [[a, b, c, d], [e]], torch.tensor([f, g], device=engine.device)
    longer = [[*one, token] for one, token in zip(inputs, after.tolist(), strict=True)]
    if engine.shape.n_ctx < max(map(len, longer)):
        return False
    whole = [engine.run(TokenBatch.of(one, device=engine.device)) for one in (inputs, longer)]
    padded = TokenBatch.of(inputs, side="left", device=engine.device)
    decoding = CachedDecoding(engine, padded, lambda layer: None)
    found = [decoding.start(), decoding.step(after)]
    allowed = ROUNDING.get(engine.dtype, HALF_ROUNDING)
    return all(
        bool((one - other).norm() < allowed * other.norm())
        for one, other in zip(found, whole, strict=True)
    )
