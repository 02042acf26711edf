"""Visits heads through Hugging Face's attention interface: exact statistics, O(N) memory.

transformers lets an attention function be registered by name and a model be switched to it, so
no model code is patched: the function computes the layer's attention, shows it to the visitor
and gives the model what the visitor leaves of it. What is computed is in
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
from transformers import (
    DynamicCache,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.output_path import Norm, OutputPath
from inactive_heads.core.tensor_types import HeadVectors, Logits, Residual, TokenMask
from inactive_heads.engines.attention import AttentionInputs, attend
from inactive_heads.engines.base import LayerSilences, ModelShape, Visitor
from inactive_heads.engines.blocks import (
    BlockNorms,
    Streams,
    blocks_around,
    found_norms,
    watched_streams,
)
from inactive_heads.engines.cascade import RowAttention, can_run_rows
from inactive_heads.engines.forward_pass import only_kept, running_alone
from inactive_heads.engines.hf_attention import Run, attention_by, configs_of, unsupported
from inactive_heads.engines.prefix_tree import Row

OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "c_proj", "dense", "Wo")
"""What models call the layer that the heads' outputs go through, W_O."""


class FlashEngine:
    """An engine over a Hugging Face model, which stays as it was given.

    The model is switched to this engine's attention for the length of one run with a visitor;
    a run without one is the model's own.

    Args:
        network: a causal language model.
        name: what error messages call it.

    Raises:
        UserError: the model does not compute its attention through transformers' attention
            interface, or in a way that is not known; the message says to use engine="lens".
    """

    name = "flash"

    def __init__(self, network: PreTrainedModel, name: str) -> None:
        self.network = network
        self._subject = f"the architecture {type(network).__name__} of {name!r}"
        self._projections: dict[int, nn.Module] = {}
        self._paths: dict[int, OutputPath] = {}
        self._blocks: dict[int, nn.Module] = {}
        self._norms: dict[int, BlockNorms] = {}
        self._norm = cache(Norm.of)  # every layer is asked for the norms of all later ones
        self._shares: bool | None = None
        self._configs = configs_of(network)
        self.shape = self._look()

    @property
    def device(self) -> torch.device:
        """Where the model takes its tokens."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the model's weights."""
        return self.network.dtype

    def bytes_per_token(self, longest: int) -> int:
        """Memory that a token takes while it runs; whatever the length, no pattern is held."""
        return self.shape.bytes_per_token(self.dtype.itemsize)

    def run(
        self, batch: TokenBatch, visitor: Visitor | None = None, keep: TokenMask | None = None
    ) -> Logits:
        """Next-token logits after the kept tokens, while ``visitor`` sees every layer's heads."""
        keep = batch.keep_last if keep is None else keep
        with running_alone(self.network), torch.no_grad(), ExitStack() as stack:
            if visitor is not None:
                streams = stack.enter_context(watched_streams(self._blocks))
                showing = _Showing(self, batch, visitor, streams)
                stack.enter_context(attention_by(self._configs, Run(batch, showing)))
            stack.enter_context(only_kept(self.network.get_output_embeddings(), keep))
            # Right padding is never seen by a real token of a causal model; left padding is.
            padding = _padding(self.network, batch) if batch.padded_left else {}
            return self.network(batch.tokens, use_cache=False, **padding).logits[0].float()

    def shares_prefixes(self) -> bool:
        """Whether this model can be run by `run_row`: tried once, on a few tokens."""
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
        """Next-token logits after the kept tokens ``(1, pos)``, and the cache for the next row.

        ``silences`` says which heads are silenced in a layer, in all inputs alike. ``cache`` is
        what the run of the row before gave; it is used up.
        """
        attention = RowAttention(row, self.device)
        batch = TokenBatch.of([row.tokens], device=self.device)
        silencing = _Silencing(attention, silences)
        with running_alone(self.network), torch.no_grad(), ExitStack() as stack:
            stack.enter_context(attention_by(self._configs, Run(batch, silencing, attention.mask)))
            stack.enter_context(only_kept(self.network.get_output_embeddings(), keep))
            found = self.network(
                batch.tokens,
                position_ids=attention.positions[None],
                past_key_values=DynamicCache() if cache is None else cache,
                use_cache=True,
            )
        return found.logits[0].float(), silencing.cache

    @contextmanager
    def attending(
        self, batch: TokenBatch, attend_by: Callable[[nn.Module, AttentionInputs], HeadVectors]
    ) -> Iterator[PreTrainedModel]:
        """The model, whose attention is what ``attend_by`` computes for the length of a block."""
        attention = attention_by(self._configs, Run(batch, attend_by))
        with running_alone(self.network), torch.no_grad(), attention:
            yield self.network

    def path(self, layer: int) -> OutputPath:
        """How a layer's heads write into the residual stream."""
        if layer not in self._paths:
            projection = self._projections[layer]
            split = "(head d_head) d_model -> head d_head d_model"
            weights = rearrange(_input_by_output(projection), split, head=self.shape.n_heads)
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
        """The norms through which the stream is read once this layer's heads have written."""
        own = self._norms[layer].after if layer in self._norms else []
        later = [self._norms[other] for other in self._norms if other > layer]
        modules = own + [norm for norms in later for norm in (*norms.before, *norms.after)]
        return Norm.together([self._norm(module) for module in modules], self.shape.d_model)

    def _look(self) -> ModelShape:
        """Runs four tokens to see which layers have heads, how many, and of what size."""
        seen: dict[int, tuple[int, int, int]] = {}
        attentions: dict[int, nn.Module] = {}

        def look(module: nn.Module, inputs: AttentionInputs) -> HeadVectors:
            layer = getattr(module, "layer_idx", None)
            if not isinstance(layer, int) or layer in seen:
                raise unsupported(self._subject, "does not number its attention layers")
            n_heads, d_head = inputs.query.shape[1], inputs.value.shape[-1]
            seen[layer] = (n_heads, inputs.key.shape[1], d_head)
            attentions[layer] = module
            self._projections[layer] = _output_projection(module, n_heads * d_head)
            return attend(inputs)[0]

        config = self.network.config.get_text_config()
        batch = TokenBatch.of([[1, 2, 3, 4]], device=self.device)
        with torch.no_grad(), attention_by(self._configs, Run(batch, look)):
            found = self.run(batch)
        if not seen:
            raise unsupported(self._subject, "does not use transformers' attention interface")
        if len(set(seen.values())) > 1:
            raise unsupported(
                self._subject,
                f"has layers of different (heads, key/value heads, d_head) {sorted(set(seen.values()))}",
            )
        self._blocks = blocks_around(self.network, attentions)
        with found_norms(self._blocks, attentions) as norms:
            expected = self.run(batch)
        self._norms = norms
        # In half precision two correct ways to compute attention can differ by more than that.
        exact = self.dtype in (torch.float32, torch.float64)
        if exact and (found - expected).norm() > 0.01 * expected.norm():
            raise unsupported(self._subject, "computes attention in a way of its own")
        n_heads, n_key_value_heads, d_head = next(iter(seen.values()))
        return ModelShape(
            layers=tuple(sorted(seen)),
            n_layers=config.num_hidden_layers,
            n_heads=n_heads,
            n_key_value_heads=n_key_value_heads,
            d_head=d_head,
            d_model=config.hidden_size,
            n_ctx=config.max_position_embeddings,
            d_vocab=expected.shape[-1],
        )


@dataclass(eq=False)
class _Showing:
    """One run with a visitor: computes each layer's heads, shows them, leaves what it answers.

    Visitors do not say what they will ask for. One that asked for the entropy in a layer will
    in the next, where it is then computed along with the outputs.
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
class _Silencing:
    """One row: computes each layer's heads, silences those given, keeps what the next row needs."""

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


def _padding(network: PreTrainedModel, batch: TokenBatch) -> dict[str, Tensor]:
    """What tells a model where the tokens are, so that padding changes nothing."""
    arguments = {"attention_mask": batch.mask.long()}
    if "position_ids" in inspect.signature(network.forward).parameters:
        arguments["position_ids"] = (batch.mask.long().cumsum(dim=1) - 1).clamp(min=0)
    return arguments


def _output_projection(module: nn.Module, width: int) -> nn.Module:
    """The layer of an attention module that the heads' outputs, ``width`` numbers, go through."""
    for name in OUTPUT_PROJECTIONS:
        found = getattr(module, name, None)
        if isinstance(found, nn.Linear | Conv1D) and _input_by_output(found).shape[0] == width:
            return found
    raise unsupported(
        f"a layer {type(module).__name__}",
        f"has no {', '.join(OUTPUT_PROJECTIONS)} with {width} inputs and unpacked weights",
    )


def _input_by_output(projection: nn.Module) -> Tensor:
    weight: Tensor = projection.weight.detach()  # type: ignore[operator]
    return weight if isinstance(projection, Conv1D) else weight.T
