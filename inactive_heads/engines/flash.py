"""An engine over Hugging Face's attention interface: exact statistics in O(N) memory.

transformers lets an attention function be registered by name and a model be switched to it, so no
model code is patched. The function computes a layer's attention, shows its heads to the visitor and
returns the outputs to the model, with the silenced heads replaced. Models that compute attention by
themselves are caught at PyTorch's functions (`own_attention`). Where a model puts a gate or a norm
between attention and W_O, a hook on the projection does the last two (`head_outputs`). The
computation itself is in `inactive_heads.engines.attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache, partial

import torch
from einops import rearrange
from transformers import DynamicCache, PreTrainedModel

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.output_path import Norm, OutputPath
from inactive_heads.core.tensor_types import FinalStates, Logits, TokenMask
from inactive_heads.engines.attention.cascade import RowAttention, can_run_rows
from inactive_heads.engines.base import (
    CheckedVisitor,
    LayerSilences,
    Visitor,
)
from inactive_heads.engines.finite import check_logits, kept_rows, located
from inactive_heads.engines.first_look import FIRST_TOKENS, first_look
from inactive_heads.engines.flash_runs import RowRun, VisitedRun
from inactive_heads.engines.network.blocks import projection_weights
from inactive_heads.engines.network.forward_pass import only_kept
from inactive_heads.engines.network.padding_side import padded_right
from inactive_heads.engines.network.rotary import RotaryAngles
from inactive_heads.engines.network.state import NetworkState
from inactive_heads.engines.network.stream import Writings, capture_streams, output_path
from inactive_heads.engines.network.unembedding import states_given, states_kept
from inactive_heads.engines.prefix_tree import Row
from inactive_heads.engines.routing.head_outputs import HeadRun, route_heads
from inactive_heads.engines.routing.hf_attention import InterfaceAttention
from inactive_heads.errors import NotFinite


class FlashEngine:
    """An engine over a Hugging Face model, which it leaves unmodified.

    A run with a visitor temporarily switches the model to this engine's attention; a run without
    one is the model's own. Attention statistics are exact and float32. Value vectors and head
    outputs have the model's dtype. No attention pattern is held unless a visitor asks for it. A
    model serves one run at a time, even if several threads ask.

        engine = FlashEngine(network, "gpt2")
        logits = engine.run(TokenBatch.of([[5, 1, 4]]), lambda heads: print(heads.z_norm))

    Args:
        network: a causal language model in evaluation mode.
        name: the model's name, used in error messages.

    Attributes:
        places: where a run meets the model's heads.
        projections: output projections by layer.

    Raises:
        Unsupported: the model's attention cannot be seen, or is of an unknown kind.
    """

    name = "flash"

    def __init__(self, network: PreTrainedModel, name: str) -> None:
        self.network = network
        self._paths: dict[int, OutputPath] = {}
        self._writings: Writings = {}
        self._shares: bool | None = None
        self._state = NetworkState(network)
        with self._state.run(lambda: [len(FIRST_TOKENS)]):
            look = first_look(network, name, self._forward)
        self.shape, self.projections = look.shape, look.projections
        self.places = look.places
        self._writings = look.writings
        # Every layer needs the norms of all later layers.
        self._norm = cache(partial(Norm.of, d_model=self.shape.d_model))
        if not look.finite:
            try:
                self.run(TokenBatch.of([FIRST_TOKENS], device=self.device))
            except NotFinite as fault:
                raise fault.about(f"{name!r}, on four tokens") from None

    @property
    def device(self) -> torch.device:
        """The device on which the model takes its tokens."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""
        return self.network.dtype

    def bytes_per_token(self, longest: int) -> int:
        """A rough estimate of the memory that one token takes during a run.

        Args:
            longest: the longest input's length; makes no difference, as no pattern is held.

        Returns:
            Bytes.
        """
        return self.shape.bytes_per_token(self.dtype.itemsize)

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
            UserError: a layer's attention turns out to be of an unknown kind, a visitor's answer
                is no answer, or logits are not finite.
        """
        keep = batch.keep_last if keep is None else keep
        batch, visitor, keep = padded_right(batch, visitor, keep)
        answers = None if visitor is None else CheckedVisitor(visitor)
        try:
            with self._state.run(lambda: batch.n_tokens.tolist()), ExitStack() as stack:
                if visitor is None and self.device.type == "cpu":
                    stack.enter_context(self.places.attention.checked(batch))
                return check_logits(self._forward(batch, answers, keep), kept_rows(batch, keep))
        except NotFinite as fault:
            given = {} if answers is None else answers.of_row(fault.row)
            raise self.located(fault, batch.tokens_of(fault.row), given.get) from None

    def located(
        self, fault: NotFinite, tokens: Sequence[int], silences: LayerSilences
    ) -> NotFinite:
        """An error about numbers that are not finite, with the place where that began.

        Args:
            fault: the error.
            tokens: the tokens of the input that it is about.
            silences: the heads that were silenced in each layer.

        Returns:
            The error, to be raised.
        """
        return located(fault, tokens, silences, self._forward_alone, self.network)

    def _forward_alone(self, batch: TokenBatch, visitor: Visitor) -> None:
        with self._state.run(lambda: batch.n_tokens.tolist()):
            self._forward(batch, visitor)

    def _forward(
        self, batch: TokenBatch, visitor: Visitor | None = None, keep: TokenMask | None = None
    ) -> Logits:
        """The logits of one run, finite or not."""
        keep = batch.keep_last if keep is None else keep
        with ExitStack() as stack:
            if visitor is not None:
                streams = stack.enter_context(capture_streams(self._writings))
                run = VisitedRun(batch, visitor, streams, self.path)
                stack.enter_context(route_heads(batch, run, self.places))
            stack.enter_context(only_kept(self.network.get_output_embeddings(), keep))
            # In a causal model, real tokens never read padding on the right: there is no other.
            return self.network(batch.tokens, use_cache=False).logits[0].float()

    def final_states(self) -> AbstractContextManager[list[FinalStates]]:
        """A context in which the final hidden states of every run are kept.

        Returns:
            The context. It yields a list that grows by the states at a run's kept tokens,
            ``(kept, d_model)``, in the order of the run's logits.
        """
        return states_kept(self.network.get_output_embeddings(), self.network)

    def unembed(self, states: FinalStates) -> Logits:
        """Turn final hidden states into logits, by a run of the model on four tokens.

        Args:
            states: ``(kept, d_model)``, as `final_states` keeps them; on any device.

        Returns:
            The logits that a run with these states has, ``(kept, d_vocab)``, float32.
        """
        tokens = TokenBatch.of([FIRST_TOKENS], device=self.device).tokens
        given = states_given(self.network.get_output_embeddings(), states)
        with self._state.run(lambda: [len(FIRST_TOKENS)]), given:
            return self.network(tokens, use_cache=False).logits[0].float()

    def shares_prefixes(self) -> bool:
        """Whether this model can be run by `run_row`.

        Returns:
            The result of a test on a few tokens, made once.
        """
        if self._shares is None:
            # A row needs a mask of its own, which a model that computes its attention by itself does
            # not take; where angles depend on an input's length, inputs cannot share rotated keys.
            takes_mask = isinstance(self.places.attention, InterfaceAttention)
            self._shares = takes_mask and not self.angles and can_run_rows(self, self.network)
        return self._shares

    def run_row(
        self,
        row: Row,
        keep: TokenMask,
        silences: LayerSilences,
        cache: DynamicCache | None = None,
    ) -> tuple[Logits, DynamicCache]:
        """Run a row of segments, each of which continues segments above it.

        Args:
            row: the segments; see `inactive_heads.engines.prefix_tree`.
            keep: ``(1, pos)``, true at the row's tokens after which logits are wanted.
            silences: returns the heads to silence in a layer, the same for all inputs.
            cache: the cache that the run of the previous row returned, which must not be used
                again; None for the first row.

        Returns:
            Next-token logits after the kept tokens, ``(kept, d_vocab)``, float32, and the cache for
            the next row.
        """
        attention = RowAttention(row, self.device)
        batch = TokenBatch.of([row.tokens], device=self.device)
        run = RowRun(attention, silences)
        routed = route_heads(batch, run, self.places, attention.mask)
        places = keep[0].nonzero().flatten().tolist()
        try:
            with self._state.run(lambda: [len(row.tokens)]), ExitStack() as stack:
                stack.enter_context(routed)
                stack.enter_context(only_kept(self.network.get_output_embeddings(), keep))
                output = self.network(
                    batch.tokens,
                    position_ids=attention.positions[None],
                    past_key_values=DynamicCache() if cache is None else cache,
                    use_cache=True,
                )
                logits = check_logits(
                    output.logits[0].float(), lambda kept: min(row.at(places[kept]).members)
                )
        except NotFinite as fault:
            raise self._fault_of_row(row, silences) or fault from None
        return logits, run.cache

    def _fault_of_row(self, row: Row, silences: LayerSilences) -> NotFinite | None:
        """The error about the first input of a row that is not finite by itself.

        In a row, the NaN of one input may reach others.
        """
        for segment in sorted(row.segments, key=lambda one: min(one.members)):
            own = [min(segment.members)]
            alone = TokenBatch.of([segment.tokens_from_start], rows=own, device=self.device)
            try:
                self.run(alone, lambda heads: silences(heads.layer))
            except NotFinite as fault:
                return fault
        return None

    @contextmanager
    def running(
        self, batch: TokenBatch, heads: HeadRun, lengths: Callable[[], Sequence[int]]
    ) -> Iterator[PreTrainedModel]:
        """A context in which the model's attention is computed and its heads silenced by a run.

        Args:
            batch: the inputs that will be run.
            heads: what is done in every layer.
            lengths: returns each input's length in tokens, those in a cache included.

        Yields:
            The model, which no other thread can run meanwhile.
        """
        routed = route_heads(batch, heads, self.places)
        with self._state.run(lengths), routed:
            yield self.network

    @property
    def angles(self) -> RotaryAngles:
        """The rotary embeddings whose angles depend on an input's length."""
        return self._state.angles

    def path(self, layer: int) -> OutputPath:
        """How a layer's heads write into the residual stream.

        Args:
            layer: one of ``shape.layers``.

        Returns:
            The layer's path, made once; its weights are views of the model's.
        """
        if layer not in self._paths:
            projection = self.projections[layer]
            split = "(head d_head) d_model -> head d_head d_model"
            n_heads = self.shape.of(layer).n_heads
            weights = rearrange(projection_weights(projection), split, head=n_heads)
            self._paths[layer] = output_path(
                weights, getattr(projection, "bias", None), self._writings[layer], self._norm
            )
        return self._paths[layer]
