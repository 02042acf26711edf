"""An engine over Hugging Face's attention interface: exact statistics in O(N) memory.

transformers lets an attention function be registered by name and a model be switched to it, so no
model code is patched. The function computes a layer's attention, shows its heads to the visitor and
returns the outputs to the model, with the silenced heads replaced. The computation itself is in
`inactive_heads.engines.attention`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.output_path import Norm, OutputPath
from inactive_heads.core.tensor_types import HeadVectors, Logits, Residual, TokenMask
from inactive_heads.engines.attention.attend import attend
from inactive_heads.engines.attention.cascade import RowAttention, can_run_rows
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.base import LayerSilences, ModelShape, Visitor
from inactive_heads.engines.blocks import (
    BlockNorms,
    Streams,
    capture_streams,
    detect_norms,
    enclosing_blocks,
    output_projection,
    projection_weights,
)
from inactive_heads.engines.forward_pass import only_kept, run_lock
from inactive_heads.engines.hf_attention import (
    AttentionHandler,
    configs_of,
    route_attention,
    unsupported,
)
from inactive_heads.engines.prefix_tree import Row


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

    Raises:
        UserError: the model does not compute its attention through transformers' attention
            interface, or has attention of an unknown kind; the message says to use engine="lens".
    """

    name = "flash"

    def __init__(self, network: PreTrainedModel, name: str) -> None:
        self.network = network
        self._subject = f"the architecture {type(network).__name__} of {name!r}"
        self._projections: dict[int, nn.Module] = {}
        self._paths: dict[int, OutputPath] = {}
        self._blocks: dict[int, nn.Module] = {}
        self._norms: dict[int, BlockNorms] = {}
        self._norm = cache(Norm.of)  # every layer needs the norms of all later layers
        self._shares: bool | None = None
        self._configs = configs_of(network)
        self.shape = self._probe()

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
            UserError: a layer's attention turns out to be of an unknown kind.
        """
        keep = batch.keep_last if keep is None else keep
        with run_lock(self.network), torch.no_grad(), ExitStack() as stack:
            if visitor is not None:
                streams = stack.enter_context(capture_streams(self._blocks))
                handler = AttentionHandler(batch, _VisitedRun(self, batch, visitor, streams))
                stack.enter_context(route_attention(self._configs, handler))
            stack.enter_context(only_kept(self.network.get_output_embeddings(), keep))
            # In a causal model, real tokens never attend to right padding; to left padding they do.
            padding = _padding_arguments(self.network, batch) if batch.padded_left else {}
            return self.network(batch.tokens, use_cache=False, **padding).logits[0].float()

    def shares_prefixes(self) -> bool:
        """Whether this model can be run by `run_row`.

        Returns:
            The result of a test on a few tokens, made once.
        """
        if self._shares is None:
            self._shares = can_run_rows(self, self.network)
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
        visit = _RowRun(attention, silences)
        handler = AttentionHandler(batch, visit, attention.mask)
        with run_lock(self.network), torch.no_grad(), ExitStack() as stack:
            stack.enter_context(route_attention(self._configs, handler))
            stack.enter_context(only_kept(self.network.get_output_embeddings(), keep))
            output = self.network(
                batch.tokens,
                position_ids=attention.positions[None],
                past_key_values=DynamicCache() if cache is None else cache,
                use_cache=True,
            )
        return output.logits[0].float(), visit.cache

    @contextmanager
    def attending(
        self, batch: TokenBatch, attend_by: Callable[[nn.Module, AttentionInputs], HeadVectors]
    ) -> Iterator[PreTrainedModel]:
        """A context in which the model's attention is computed by a function.

        Args:
            batch: the inputs that will be run.
            attend_by: returns a layer's head outputs z, ``(batch, pos, head, d_head)``, given the
                attention module and its inputs.

        Yields:
            The model, which no other thread can run meanwhile.
        """
        attention = route_attention(self._configs, AttentionHandler(batch, attend_by))
        with run_lock(self.network), torch.no_grad(), attention:
            yield self.network

    def path(self, layer: int) -> OutputPath:
        """How a layer's heads write into the residual stream.

        Args:
            layer: one of ``shape.layers``.

        Returns:
            The layer's path, made once; its weights are views of the model's.
        """
        if layer not in self._paths:
            projection = self._projections[layer]
            split = "(head d_head) d_model -> head d_head d_model"
            weights = rearrange(projection_weights(projection), split, head=self.shape.n_heads)
            norms = self._norms.get(layer, BlockNorms())
            self._paths[layer] = OutputPath(
                weights,
                getattr(projection, "bias", None),
                None if norms.post is None else self._norm(norms.post),
                norms.multiplier,
                partial(self._readers, layer),
            )
        return self._paths[layer]

    def _readers(self, layer: int) -> Norm:
        """The norms that read the stream after this layer's heads have written, as one."""
        own = self._norms[layer].after if layer in self._norms else []
        later = [self._norms[other] for other in self._norms if other > layer]
        modules = own + [norm for norms in later for norm in (*norms.before, *norms.after)]
        return Norm.together([self._norm(module) for module in modules], self.shape.d_model)

    def _probe(self) -> ModelShape:
        """Runs four tokens to find attention layers, their sizes, output projections and norms."""
        sizes: dict[int, tuple[int, int, int]] = {}
        attentions: dict[int, nn.Module] = {}

        def record(module: nn.Module, inputs: AttentionInputs) -> HeadVectors:
            layer = getattr(module, "layer_idx", None)
            if not isinstance(layer, int) or layer in sizes:
                raise unsupported(self._subject, "does not number its attention layers")
            n_heads, d_head = inputs.query.shape[1], inputs.value.shape[-1]
            sizes[layer] = (n_heads, inputs.key.shape[1], d_head)
            attentions[layer] = module
            self._projections[layer] = output_projection(module, n_heads * d_head)
            return attend(inputs)[0]

        config = self.network.config.get_text_config()
        batch = TokenBatch.of([[1, 2, 3, 4]], device=self.device)
        with torch.no_grad(), route_attention(self._configs, AttentionHandler(batch, record)):
            logits = self.run(batch)
        if not sizes:
            raise unsupported(self._subject, "does not use transformers' attention interface")
        if len(set(sizes.values())) > 1:
            raise unsupported(
                self._subject,
                f"has layers of different (heads, key/value heads, d_head) {sorted(set(sizes.values()))}",
            )
        self._blocks = enclosing_blocks(self.network, attentions)
        with detect_norms(self._blocks, attentions) as norms:
            expected = self.run(batch)
        self._norms = norms
        # In half precision two correct ways to compute attention can differ by more than 1%.
        exact = self.dtype in (torch.float32, torch.float64)
        if exact and (logits - expected).norm() > 0.01 * expected.norm():
            raise unsupported(self._subject, "computes attention in a way of its own")
        n_heads, n_key_value_heads, d_head = next(iter(sizes.values()))
        return ModelShape(
            layers=tuple(sorted(sizes)),
            n_layers=config.num_hidden_layers,
            n_heads=n_heads,
            n_key_value_heads=n_key_value_heads,
            d_head=d_head,
            d_model=config.hidden_size,
            n_ctx=config.max_position_embeddings,
            d_vocab=expected.shape[-1],
        )


@dataclass(eq=False)
class _VisitedRun:
    """One run with a visitor: computes each layer's heads, shows them and applies the answer.

    Visitors do not say beforehand what they will ask for. If one asks for the entropy in a layer,
    it is computed along with z in the next.
    """

    engine: FlashEngine
    batch: TokenBatch
    visitor: Visitor
    streams: Streams
    entropy_asked: bool = False

    def __call__(self, module: nn.Module, inputs: AttentionInputs) -> HeadVectors:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        z, statistics = attend(inputs, with_entropy=self.entropy_asked)
        heads = HeadActivations(
            layer=layer,
            batch=self.batch,
            values=rearrange(inputs.value, "batch kv_head pos d_head -> batch pos kv_head d_head"),
            outputs=z,
            attention=statistics,
            path=self.engine.path(layer),
            stream=partial(self._stream, layer),
        )
        silence = self.visitor(heads)
        self.entropy_asked = heads.entropy_asked
        self.streams.pop(layer, None)
        return z if silence is None else silence.apply(z)

    def _stream(self, layer: int) -> Residual:
        if layer not in self.streams:
            raise unsupported(
                f"layer {layer}",
                "stands in no list of blocks, so that its residual stream is not known",
            )
        return self.streams[layer]


@dataclass(eq=False)
class _RowRun:
    """One run of a row: computes and silences each layer's heads, and caches for the next row."""

    attention: RowAttention
    silences: LayerSilences
    cache: DynamicCache = field(default_factory=DynamicCache)

    def __call__(self, module: nn.Module, inputs: AttentionInputs) -> HeadVectors:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        kept = self.attention.kept.to(inputs.key.device)
        if len(kept):
            self.cache.update(inputs.key[:, :, kept], inputs.value[:, :, kept], layer)
        z, silence = self.attention.attend(inputs), self.silences(layer)
        return z if silence is None else silence.apply(z)


def _padding_arguments(network: PreTrainedModel, batch: TokenBatch) -> dict[str, Tensor]:
    """The arguments that tell a model which tokens are real, and their positions."""
    arguments = {"attention_mask": batch.mask.long()}
    if "position_ids" in inspect.signature(network.forward).parameters:
        arguments["position_ids"] = (batch.mask.long().cumsum(dim=1) - 1).clamp(min=0)
    return arguments
