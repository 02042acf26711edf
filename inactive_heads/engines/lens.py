"""An engine over TransformerLens hooks.

Works on a TransformerBridge (TransformerLens 3.9 and 4) and on a HookedTransformer
(TransformerLens 3), which share the hook names ``hook_v``, ``hook_pattern`` and ``hook_z``. One
layer's activations are held at a time, never the whole cache.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.core.output_path import Norm, OutputPath
from inactive_heads.core.tensor_types import FinalStates, Logits, TokenMask
from inactive_heads.engines.base import CheckedVisitor, Visitor
from inactive_heads.engines.finite import check_logits, kept_rows, located
from inactive_heads.engines.first_look import FIRST_TOKENS
from inactive_heads.engines.lens_shape import Hooks, hooks_of, output_weights, shape_of, shown_shape
from inactive_heads.engines.lens_visit import LayerVisit
from inactive_heads.engines.network.forward_pass import only_kept
from inactive_heads.engines.network.own_logits import first_logits, same_logits
from inactive_heads.engines.network.padding_side import padded_right
from inactive_heads.engines.network.residual import Writing
from inactive_heads.engines.network.state import NetworkState
from inactive_heads.engines.network.stream import (
    Writings,
    capture_streams,
    follow_stream,
    output_path,
)
from inactive_heads.engines.network.unembedding import states_given, states_kept
from inactive_heads.engines.routing.refusals import Unsupported, unsupported_if_it_fails
from inactive_heads.errors import NotFinite, naming

_seen: WeakKeyDictionary[Any, tuple[ModelShape, Writings]] = WeakKeyDictionary()
"""The sizes of bridges that have passed the first look, and how their heads write."""


def bridge_of(network: PreTrainedModel, name: str) -> Any:
    """A TransformerBridge over a loaded Hugging Face model, with raw weights and no tokenizer.

    Nothing is downloaded.

        engine = LensEngine(bridge_of(network, "gpt2"))

    Args:
        network: the model, loaded with eager attention.
        name: the model's name, used in error messages and as ``bridge.cfg.model_name``.

    Returns:
        The bridge in evaluation mode. It runs the model's own modules.

    Raises:
        Unsupported: TransformerLens does not support the architecture.
    """
    # TransformerLens takes seconds to import, and only this engine needs it.
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    architecture = type(network).__name__
    subject = f"the architecture {architecture} of {name!r}"
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise Unsupported(f"TransformerLens has no bridge for {subject}", "lens")
    with unsupported_if_it_fails(f"TransformerLens's bridge does not fit {subject}", "lens"):
        tokens, own = first_logits(network.eval())
        bridge = build_bridge_from_module(
            network, architecture, hf_config=network.config, model_name=name
        ).eval()
        # In half precision two correct ways to compute attention can differ by more than 1%.
        exact = network.dtype in (torch.float32, torch.float64)
        same = not exact or same_logits(bridge, tokens, own)
    if not same:
        raise Unsupported(
            f"TransformerLens's bridge computes other logits than {subject} itself", "lens"
        )
    return bridge


class LensEngine:
    """An engine over a TransformerBridge or HookedTransformer, which it leaves unmodified.

    Hooks are added for one run and removed afterwards, even if it fails. Value vectors, head
    outputs and the pattern are those of the hooks, with the model's weight processing; statistics
    are float32. The whole pattern of one layer is held at a time. A model serves one run at a time,
    even if several threads ask.

    In some architectures (GPT-J, OPT, GPT-Neo) the pattern is known only after the head outputs. A
    visitor that asks for it is then called again, and its answer must be None.

        bridge = TransformerBridge.boot_transformers("gpt2")
        LensEngine(bridge).run(TokenBatch.of([[5, 1, 4]]), lambda heads: print(heads.z_norm))

    Args:
        bridge: the model.

    Attributes:
        bridge: the given model.
        shape: the model's sizes; ``shape.layers`` are those that have all hooks in `HOOKS`.

    Raises:
        Unsupported: no layer has these hooks, or they do not show its heads.
    """

    name = "lens"

    def __init__(self, bridge: Any) -> None:
        self.bridge = bridge
        self.shape = _seen[bridge][0] if bridge in _seen else shape_of(bridge)
        names = bridge.hook_dict
        self._hooks = {layer: hooks_of(layer, names) for layer in self.shape.layers}
        self._paths: dict[int, OutputPath] = {}
        self._norm = cache(partial(_norm, d_model=self.shape.d_model))
        self._state = NetworkState(bridge)
        self._writings: Writings = {}
        if bridge not in _seen:
            _seen[bridge] = self._look_first()
            self._paths.clear()  # made before it was known how heads write
        self.shape, self._writings = _seen[bridge]

    def _look_first(self) -> tuple[ModelShape, Writings]:
        """Runs four tokens, to prove that every layer shows its heads and that logits are finite.

        That z is what enters W_O holds by definition: ``hook_z`` is on the projection's input.

        Returns:
            The sizes that the hooks show, and how each layer's heads write into the residual stream.
        """
        name = self.bridge.cfg.model_name
        batch = TokenBatch.of([FIRST_TOKENS], device=self.device)
        blocks = list(self.bridge.blocks)
        attentions = {layer: blocks[layer].attn for layer in self.shape.layers}
        # HookedTransformer's attention has no module for its projection.
        projections = {layer: getattr(one, "o", one) for layer, one in attentions.items()}
        following = follow_stream(blocks, projections)
        found: Writings = {}

        def run(hooks: Hooks) -> Logits:
            lengths: Callable[[], list[int]] = batch.n_tokens.tolist
            with self._state.run(lengths), self.bridge.hooks(fwd_hooks=list(hooks)):
                with following as writings:
                    logits = self._forward(batch, None, batch.keep_last)
                found.update(writings)
                return logits

        with (
            unsupported_if_it_fails(f"TransformerLens cannot run {name!r} on four tokens", "lens"),
            naming(lambda _: f"{name!r}, on four tokens"),
        ):
            self.shape, logits = shown_shape(self.shape, name, self.hooks, run)
            if not bool(logits.amax(dim=-1).isfinite().all()):
                self.run(batch, lambda heads: None)  # says where that began
        return self.shape, found

    @property
    def device(self) -> torch.device:
        """The device on which the model takes its tokens."""
        return next(self.bridge.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""
        return next(self.bridge.parameters()).dtype

    def bytes_per_token(self, longest: int) -> int:
        """A rough estimate of the memory that one token takes during a run.

        Args:
            longest: length of the batch's longest input, in tokens.

        Returns:
            Bytes, including attention logits, the pattern and copies of both.
        """
        patterns = 4 * 4 * self.shape.n_heads * longest
        return self.shape.bytes_per_token(self.dtype.itemsize) + patterns

    def run(
        self, batch: TokenBatch, visitor: Visitor | None = None, keep: TokenMask | None = None
    ) -> Logits:
        """Run the model once over a batch.

        Args:
            batch: the inputs, none longer than ``shape.n_ctx``, on `device`.
            visitor: sees every layer's heads and may answer with those to silence; None runs the
                model alone.
            keep: ``(batch, pos)``, true at the tokens after which logits are wanted; each input's
                last token by default.

        Returns:
            Next-token logits, ``(kept, d_vocab)``, float32: the kept tokens of the first input,
            then of the second, and so on.

        Raises:
            UserError: the visitor silences heads by attention weights, and the model gives them
                only after the head outputs; its answer is no answer; or logits are not finite.
        """
        keep = batch.keep_last if keep is None else keep
        batch, visitor, keep = padded_right(batch, visitor, keep)
        answers = None if visitor is None else CheckedVisitor(visitor)
        return self._run(batch, lambda: self._forward(batch, answers, keep), keep, answers)

    def _run(
        self,
        batch: TokenBatch,
        forward: Callable[[], Logits],
        keep: TokenMask,
        answers: CheckedVisitor | None,
    ) -> Logits:
        lengths: Callable[[], list[int]] = batch.n_tokens.tolist
        try:
            with self._state.run(lengths):
                return check_logits(forward(), kept_rows(batch, keep))
        except NotFinite as fault:
            given = {} if answers is None else answers.of_row(fault.row)
            tokens = batch.tokens_of(fault.row)
            raise located(fault, tokens, given.get, self._forward_alone, self.bridge) from None

    def _forward_alone(self, batch: TokenBatch, visitor: Visitor) -> None:
        with self._state.run(batch.n_tokens.tolist):
            self._forward(batch, visitor, batch.keep_last)

    def _forward(self, batch: TokenBatch, visitor: Visitor | None, keep: TokenMask) -> Logits:
        """The logits of one run, finite or not."""
        with ExitStack() as stack:
            if visitor is not None:
                name = str(self.bridge.cfg.model_name)
                streams = stack.enter_context(capture_streams(self._writings))
                visits = [
                    LayerVisit(
                        name, batch, visitor, layer, self.path(layer), streams, self.hooks(layer)
                    )
                    for layer in self.shape.layers
                ]
                hooks = [hook for visit in visits for hook in visit.hooks()]
                stack.enter_context(self.bridge.hooks(fwd_hooks=hooks))
            stack.enter_context(only_kept(self.bridge.unembed, keep))
            # In a causal model, real tokens never read padding on the right: there is no other.
            return self.bridge(batch.tokens, return_type="logits")[0].float()

    def final_states(self) -> AbstractContextManager[list[FinalStates]]:
        """A context in which the final hidden states of every run are kept.

        Returns:
            The context. It yields a list that grows by the states at a run's kept tokens,
            ``(kept, d_model)``, in the order of the run's logits.
        """
        return states_kept(self.bridge.unembed, self.bridge)

    def unembed(self, states: FinalStates) -> Logits:
        """Turn final hidden states into logits, by a run of the model on four tokens.

        Args:
            states: ``(kept, d_model)``, as `final_states` keeps them; on any device.

        Returns:
            The logits that a run with these states has, ``(kept, d_vocab)``, float32.
        """
        tokens = TokenBatch.of([FIRST_TOKENS], device=self.device).tokens
        given = states_given(self.bridge.unembed, states)
        with self._state.run(lambda: [len(FIRST_TOKENS)]), given:
            return self.bridge(tokens, return_type="logits")[0].float()

    def hooks(self, layer: int) -> dict[str, str]:
        """The hooks in which a layer's heads are read.

        Args:
            layer: one of ``shape.layers``.

        Returns:
            By name ("hook_v", "hook_pattern", "hook_z"), the hook's full name.
        """
        return self._hooks[layer]

    def path(self, layer: int) -> OutputPath:
        """How a layer's heads write into the residual stream.

        Args:
            layer: one of ``shape.layers``.

        Returns:
            The layer's path, made once.
        """
        if layer not in self._paths:
            attention = self.bridge.blocks[layer].attn
            bias = getattr(attention, "b_O", None)
            weights = (
                output_weights(attention, self.shape.of(layer))
                if self.shape.differing
                else attention.W_O.detach()
            )
            self._paths[layer] = output_path(
                weights,
                None if bias is None else bias.detach(),
                self._writings.get(layer, Writing(unknown="the model has not run yet")),
                self._norm,
            )
        return self._paths[layer]

    def stream_factor(self, layer: int) -> float | None:
        """The factor between ``hook_resid_pre`` and the stream that a layer's heads add to.

        Args:
            layer: one of ``shape.layers``.

        Returns:
            1 in most models; None if they add to something else.
        """
        place = self._writings[layer].place
        if place is None or place.module is not self.bridge.blocks[layer] or not place.entering:
            return None
        return place.factor


def _norm(component: Any, d_model: int) -> Norm:
    """The norm that a component computes."""
    return Norm.of(getattr(component, "original_component", None) or component, d_model)
