"""The first look at a network: its attention layers, and the proof that their heads can be shown.

z is what enters W_O. In most models that is what attention returns, bit for bit. Others put a gate,
a norm or a scale between: their layers are told apart, and what enters W_O is proven to keep heads
apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.model_shape import HeadSizes, ModelShape
from inactive_heads.core.tensor_types import HeadVectors, Logits
from inactive_heads.engines.attention.attend import attend
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.network.blocks import (
    OUTPUT_PROJECTIONS,
    expert_layers,
    linear_layers,
    output_projection,
)
from inactive_heads.engines.network.stream import Writings, blocks_around, follow_stream
from inactive_heads.engines.routing.head_outputs import HeadPlaces
from inactive_heads.engines.routing.heads_apart import mixing_layer
from inactive_heads.engines.routing.hf_attention import (
    AttentionHandler,
    InterfaceAttention,
    configs_of,
)
from inactive_heads.engines.routing.masks import MaskFunction, mask_always
from inactive_heads.engines.routing.numbering import Numbering
from inactive_heads.engines.routing.own_attention import OwnAttention, elsewhere
from inactive_heads.engines.routing.refusals import SeesLater, Unsupported
from inactive_heads.errors import UserError
from inactive_heads.third_party import explained

FIRST_TOKENS = [1, 2, 3, 4]
"""The tokens that a first look runs."""

FAILURES = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a model raises that cannot run with another attention function."""

NOT_SEEN = (
    "computes attention neither by transformers' attention interface nor by PyTorch's "
    "scaled_dot_product_attention or a softmax and a product with values"
)


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What the first look at a network found.

    Attributes:
        shape: the model's sizes.
        projections: output projections by layer.
        writings: how each layer's heads write into the residual stream.
        places: where a run meets the heads.
        finite: whether the logits after the tokens are.
    """

    shape: ModelShape
    projections: dict[int, nn.Module]
    writings: Writings
    places: HeadPlaces
    finite: bool


def first_look(
    network: PreTrainedModel, name: str, run: Callable[[TokenBatch], Logits]
) -> FirstLook:
    """Run four tokens to find the attention layers, and check that their heads can be shown.

    What is proven: attention sees no later token, and its keys are tokens; what it returns is the
    input of the output projection, or that input still keeps heads apart; attention computed here
    gives the model's own logits. Layers may differ in their heads.

    Args:
        network: the model.
        name: its name, used in error messages.
        run: runs a batch through the network.

    Returns:
        What was found.

    Raises:
        Unsupported: something cannot be proven; ``reason`` says what.
        UserError: the model does not run.
    """
    subject = f"the architecture {type(network).__name__} of {name!r}"
    try:
        return _Looking(network, subject, run, InterfaceAttention(configs_of(network))).found()
    except SeesLater:
        # transformers' eager attention gets a mask in any case: there, no module need say that it
        # is causal. With any other, this one does let tokens see later ones.
        if any(one._attn_implementation != "eager" for one in configs_of(network)):
            raise
    masked = InterfaceAttention(configs_of(network), mask_always)
    return _Looking(network, subject, run, masked).found()


class _Looking:
    def __init__(
        self,
        network: PreTrainedModel,
        subject: str,
        run: Callable[[TokenBatch], Logits],
        attention: InterfaceAttention,
    ) -> None:
        self._network, self._subject, self._run = network, subject, run
        self._numbering = Numbering(network, subject)
        self._attention: InterfaceAttention | OwnAttention = attention
        self._sizes: dict[int, HeadSizes] = {}
        self._keys_and_values: dict[int, tuple[Tensor, Tensor]] = {}
        self._attentions: dict[int, nn.Module] = {}
        self._projections: dict[int, nn.Module] = {}
        self._changed: dict[int, bool] = {}
        """By layer that has run, whether something stands between attention and W_O."""
        self._entering: dict[nn.Module, tuple[int, HeadVectors]] = {}
        """By output projection, the layer whose heads it takes in next, and what attention gave."""
        self._by_experts: set[int] = set()
        """Layers whose heads' outputs, of all tokens in some order, entered a layer of experts."""

    def found(self) -> FirstLook:
        config, network = self._network.config.get_text_config(), self._network
        batch = TokenBatch.of([FIRST_TOKENS], device=network.device)
        logits = self._logits_by_our_attention(batch)
        self._check_layers()
        numbers = self._numbering.found()
        blocks = blocks_around(network, self._attentions)
        with (
            follow_stream(blocks, self._projections) as writings,
            self._noticed(numbers.n_layers) as noticed,
        ):
            own = self._run(batch)
        if (place := elsewhere(network, noticed, list(self._attentions.values()))) is not None:
            raise self._unsupported(f"computes attention in {place} otherwise than in other layers")
        finite = bool(logits.amax().isfinite() & own.amax().isfinite())
        # In half precision two correct ways to compute attention can differ by more than 1%.
        exact = network.dtype in (torch.float32, torch.float64)
        if exact and (logits - own).norm() > 0.01 * own.norm():
            raise self._unsupported("computes attention in a way of its own")
        shape = ModelShape.of_layers(
            self._sizes,
            n_layers=numbers.n_layers,
            d_model=config.hidden_size,
            n_ctx=_context_length(config),
            d_vocab=own.shape[-1],
        )
        altered = self._altered()
        # Of attention that a model computes itself, the layout by heads is assumed until here.
        doubtful = self._projections if isinstance(self._attention, OwnAttention) else altered
        if doubtful and finite:  # NaN compares with nothing; the engine says where it began
            self._check_heads_apart(HeadPlaces(self._attention, numbers, doubtful))
        places = HeadPlaces(self._attention, numbers, altered)
        return FirstLook(shape, self._projections, writings, places, finite)

    def _logits_by_our_attention(self, batch: TokenBatch) -> Logits:
        try:
            logits = self._attended_by_us(batch)
        except UserError:
            raise
        except FAILURES as error:
            with explained(f"{self._subject} does not run on four tokens", "check its files"):
                self._run(batch)
            if self._sizes or not self._runs_past_us(batch):
                raise self._does_not_run(error) from error
        if self._sizes:
            return logits
        self._attention = own = OwnAttention.of(self._network)
        try:
            logits = self._attended_by_us(batch)
        except UserError:
            raise
        except FAILURES as error:
            raise self._does_not_run(error) from error
        if not self._sizes:
            raise self._unsupported(NOT_SEEN)
        self._attention = own.of_seen()
        return logits

    def _attended_by_us(self, batch: TokenBatch, mask: MaskFunction | None = None) -> Logits:
        with self._numbering.during_run(), ExitStack() as stack:
            handler = AttentionHandler(batch, partial(self._record, stack=stack), mask)
            with self._attention.route(handler):
                return self._run(batch)

    def _runs_past_us(self, batch: TokenBatch) -> bool:
        """Whether the model runs without our attention, if it gets a mask where none is needed."""
        with suppress(*FAILURES):
            self._attended_by_us(batch, mask_always)
            return not self._sizes
        return False

    def _does_not_run(self, error: Exception) -> Unsupported:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return self._unsupported(f"does not run with another attention function ({reason[:80]})")

    def _record(
        self, module: nn.Module, inputs: AttentionInputs, *, stack: ExitStack
    ) -> HeadVectors:
        layer = self._numbering.layer_of(module)
        n_tokens = len(FIRST_TOKENS)
        if (what := inputs.beside_tokens(n_tokens, n_tokens)) is not None:
            raise self._unsupported(f"{what} in layer {layer}")
        n_heads, d_head = inputs.query.shape[1], inputs.value.shape[-1]
        owner = self._owner_of(inputs.key, inputs.value)
        self._sizes[layer] = HeadSizes(n_heads, inputs.key.shape[1], d_head, owner)
        if owner is None:
            self._keys_and_values[layer] = inputs.key, inputs.value
        self._attentions[layer] = module
        z, statistics = attend(inputs)
        if inputs.mask is not None and bool((statistics.pattern().triu(1) > 0).any()):
            raise self._unsupported(f"lets tokens see later ones in layer {layer}")
        projection = output_projection(module, n_heads * d_head)
        if projection is None:
            self._watch_for_projection(layer, z, stack)
            return z
        if projection not in self._projections.values():
            stack.callback(projection.register_forward_pre_hook(self._compare).remove)
        self._projections[layer] = projection
        self._entering[projection] = layer, z
        return z

    def _compare(self, projection: nn.Module, args: tuple[Any, ...]) -> None:
        """Whether what enters an output projection is what attention returned before it."""
        if projection not in self._entering:
            layer = max(one for one in self._changed if self._projections[one] is projection)
            raise self._unsupported(f"runs the output projection of layer {layer} more than once")
        layer, z = self._entering.pop(projection)
        self._changed[layer] = not _same(args[0], z)

    def _watch_for_projection(self, layer: int, z: HeadVectors, stack: ExitStack) -> None:
        """Finds W_O where the attention module has none: it is the linear layer that takes in z.

        BERT's stands beside the attention module, Moshi's is wrapped.
        """

        def look(candidate: nn.Module, args: tuple[Any, ...]) -> None:
            if args and _same(args[0], z):
                if layer in self._projections:
                    raise self._unsupported(
                        f"gives the heads' outputs of layer {layer} to several linear layers"
                    )
                self._projections[layer], self._changed[layer] = candidate, False

        def look_at_experts(_module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and _same_numbers(args[0], z):
                self._by_experts.add(layer)

        for candidate in linear_layers(self._network, z.shape[2] * z.shape[3]):
            stack.callback(candidate.register_forward_pre_hook(look).remove)
        for candidate in expert_layers(self._network):
            stack.callback(candidate.register_forward_pre_hook(look_at_experts).remove)

    def _owner_of(self, key: Tensor, value: Tensor) -> int | None:
        """The earlier layer that made these keys and values; None if there is none."""
        for layer, (known_key, known_value) in self._keys_and_values.items():
            if _is_same_tensor(key, known_key) and _is_same_tensor(value, known_value):
                return layer
        return None

    def _check_layers(self) -> None:
        unseen = sorted(set(self._sizes) - set(self._changed))
        if unseen and unseen[0] in self._by_experts:
            raise self._unsupported(
                f"projects heads in layer {unseen[0]} by experts that are chosen for each token, not "
                "by one output projection"
            )
        if unseen and unseen[0] not in self._projections:
            raise self._unsupported(
                f"has no linear layer {', '.join(OUTPUT_PROJECTIONS)} in the attention of layer "
                f"{unseen[0]}, and no other takes in the heads' outputs"
            )
        if unseen:
            raise self._unsupported(f"does not run the output projection of layer {unseen[0]}")

    def _noticed(self, n_layers: int) -> AbstractContextManager[Sequence[nn.Module]]:
        """Notes modules that compute attention by themselves, where layers have shown no heads."""
        if len(self._sizes) == n_layers:
            return nullcontext(())
        return OwnAttention.of(self._network).noticed()

    def _altered(self) -> dict[int, nn.Module]:
        """The output projections of layers in which something stands before it, and of layers that
        share one with such a layer."""
        altered = {self._projections[layer] for layer, changed in self._changed.items() if changed}
        return {
            layer: projection
            for layer, projection in sorted(self._projections.items())
            if projection in altered
        }

    def _check_heads_apart(self, places: HeadPlaces) -> None:
        most = max(one.n_heads for one in self._sizes.values())
        try:
            layer = mixing_layer(self._run, FIRST_TOKENS, places, most, self._network.device)
        except Unsupported as error:
            raise self._unsupported(f"is not laid out by heads: {error.reason}") from None
        if layer is not None:
            raise self._unsupported(
                f"mixes heads, or adds to them, between attention and the output projection of "
                f"layer {layer}"
            )

    def _unsupported(self, what: str) -> Unsupported:
        return Unsupported(f"{self._subject} {what}")


def _context_length(config: PreTrainedConfig) -> int:
    """The longest input, in tokens; no bound for models that know no positions."""
    longest = getattr(config, "max_position_embeddings", None)
    return sys.maxsize if longest is None else int(longest)


def _is_same_tensor(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if one.device != other.device:  # a copy, in a model that is spread over devices
        return torch.equal(one, other.to(one.device))
    return one.data_ptr() == other.data_ptr()


def _same(entering: Tensor, z: HeadVectors) -> bool:
    """Whether what enters a projection is z, if in another dtype."""
    return torch.equal(entering.flatten(), z.flatten().to(entering.dtype))


def _same_numbers(entering: object, z: HeadVectors) -> bool:
    """Whether what enters a layer are the numbers of z in any order, if in another dtype."""
    if not isinstance(entering, Tensor) or entering.numel() != z.numel():
        return False
    ordered = z.flatten().to(entering.dtype).sort().values
    return torch.equal(entering.flatten().sort().values, ordered)
