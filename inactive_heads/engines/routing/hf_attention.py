"""The attention function registered with transformers, and the handler it passes layers to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PreTrainedConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors
from inactive_heads.engines.attention.attend import hides_faults
from inactive_heads.engines.attention.inputs import AttentionInputs, AttentionMask
from inactive_heads.engines.attention.selected import (
    SelectedBlocks,
    are_numbers,
    for_every_head,
    only_selected,
    selected_keys,
)
from inactive_heads.engines.routing.masks import MaskFunction
from inactive_heads.engines.routing.refusals import SeesLater, subject_of, unsupported
from inactive_heads.engines.routing.uneven_groups import UNEVEN, for_query_heads, held_heads
from inactive_heads.errors import NotFinite, UserError

INTERFACE = "inactive_heads"
"""The name under which this engine's attention is registered with transformers."""

CHECKED = "inactive_heads_checked_sdpa"
"""The name under which the model's own attention is registered, with a check of its inputs."""

IGNORED = {"position_ids", "cache_position", "hidden_states"}
"""Tensors that models pass to every attention function and that do not affect the softmax."""


class AttentionHandler(NamedTuple):
    """Computes a model's attention during one run.

    Attributes:
        batch: the inputs of the run.
        visit: returns a layer's head outputs z, ``(batch, pos, head, d_head)``, given the attention
            module and its inputs.
        mask: returns the boolean attention mask, or None if attention is plainly causal, given
            transformers' keywords for mask functions. A window or left padding costs one byte per
            query and key, shared by all heads and layers; SDPA gets the same mask. None for the
            mask function of the model's attention.
    """

    batch: TokenBatch
    visit: Callable[[nn.Module, AttentionInputs], HeadVectors]
    mask: MaskFunction | None = None


_handler: ContextVar[AttentionHandler | None] = ContextVar("inactive_heads_handler", default=None)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    sinks: Tensor | None = None,
    indices: Tensor | None = None,
    block_indices: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The attention function registered under `INTERFACE`."""
    handler = _current_handler()
    subject = subject_of(module)
    unknown = [name for name, value in others.items() if isinstance(value, Tensor)]
    if unknown := sorted(set(unknown) - IGNORED):
        raise unsupported(subject, f"gives its attention {', '.join(unknown)}")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and not causal and handler.mask is sdpa_mask:
        raise SeesLater(f"{subject} lets tokens see later ones")
    key, value = for_query_heads(module, key, value)
    check_groups(module, query, key, value)
    inputs = AttentionInputs(
        query=query,
        key=key,
        value=value,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        first=handler.batch.first,
        mask=_with_selected(attention_mask, module, query, key, indices, block_indices),
        softcap=softcap,
        sinks=s_aux if sinks is None else sinks,
        bias=position_bias,
        held=held_heads(module),
    )
    # Some models call view() on it, as all of transformers' own functions allow.
    return handler.visit(module, inputs).contiguous(), None


def check_groups(module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raise an error where query heads do not share key/value heads evenly.

    PyTorch's kernel for the CPU would end the process.

    Args:
        module: the attention module.
        query: ``(batch, head, query, d_key)``.
        key: ``(batch, kv_head, key, d_key)``.
        value: ``(batch, kv_head, key, d_head)``.

    Raises:
        Unsupported: the numbers of heads do not fit each other.
    """
    n_heads, n_keys, n_values = (one.shape[1] for one in (query, key, value))
    if n_keys != n_values:
        raise unsupported(
            subject_of(module), f"has {n_keys} heads of keys and {n_values} of values"
        )
    if n_heads % n_keys:
        heads = f"{n_heads} heads and {n_keys} key/value heads"
        raise unsupported(subject_of(module), f"has {heads}, which is no divisor")


def _with_selected(
    mask: AttentionMask | None,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    indices: Tensor | None,
    block_indices: Tensor | None,
) -> AttentionMask | None:
    """The mask without the keys that an indexer has not selected for a query.

    Models with an indexer leave this to every attention function whose name is not one of
    transformers' own.
    """
    subject = subject_of(module)
    if indices is not None:
        if not are_numbers(indices, 3):
            of = f"shape {tuple(indices.shape)} and {indices.dtype}"
            raise unsupported(subject, f"gives its attention indices of {of}")
        mask = only_selected(mask, selected_keys(indices.to(key.device), key.shape[2]))
    if block_indices is None:
        return mask
    blocks = SelectedBlocks(block_indices, getattr(module, "indexer", None))
    if (what := blocks.fault(query.shape[1])) is not None:
        raise unsupported(subject, what)
    if shift := int(_current_handler().batch.first.max()):
        raise UserError(
            f"{subject} selects blocks of {blocks.size} keys by their place, which padding on the "
            f"left shifts (by {shift}); pad on the right"
        )
    return only_selected(mask, blocks.keys(key.shape[2]).to(key.device))


def _mask(**arguments: Any) -> Tensor | None:
    """The mask function registered under `INTERFACE`."""
    mask = _current_handler().mask
    assert mask is not None, "the handler of a route has a mask function"
    return mask(**arguments)


def _current_handler() -> AttentionHandler:
    handler = _handler.get()
    if handler is None:
        raise RuntimeError("the model is being run by a FlashEngine in another thread")
    return handler


AttentionInterface.register(INTERFACE, _attention)
AttentionMaskInterface.register(INTERFACE, _mask)


def _checked_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    indices: Tensor | None = None,
    block_indices: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' own attention, registered under `CHECKED`, which hides no fault of its inputs."""
    key, value = for_query_heads(module, key, value)
    check_finite(query, key, _current_handler().batch)
    mask = _with_selected(attention_mask, module, query, key, indices, block_indices)
    if mask is not None:
        mask = for_every_head(mask, query.shape[1])
    return sdpa_attention_forward(module, query, key, value, mask, **options)


def check_finite(query: Tensor, key: Tensor, batch: TokenBatch) -> None:
    """Raise an error where PyTorch's kernel would turn NaN or infinity into numbers.

    Args:
        query: ``(batch, head, query, d_key)``.
        key: ``(batch, kv_head, key, d_key)``.
        batch: the inputs.

    Raises:
        NotFinite: a real token's query or key is not finite.
    """
    if not hides_faults(query, key):
        return
    for index, row in enumerate(batch.rows):
        real = batch.mask[index].to(query.device)
        if not all(bool(one[index][:, real].isfinite().all()) for one in (query, key)):
            raise NotFinite(
                row,
                "queries or keys of an attention layer are not finite",
                "a dtype such as float16 overflows, or weights are damaged",
            )


AttentionInterface.register(CHECKED, _checked_sdpa)
AttentionMaskInterface.register(CHECKED, sdpa_mask)


def configs_of(network: nn.Module) -> list[PreTrainedConfig]:
    """Every config in which a module of the network looks up its attention implementation.

    Args:
        network: the model.

    Returns:
        The distinct configs: one in most models, several in those made of submodels.
    """
    found = (getattr(module, "config", None) for module in network.modules())
    configs = {id(config): config for config in found if isinstance(config, PreTrainedConfig)}
    return list(configs.values())


@dataclass(frozen=True, eq=False)
class InterfaceAttention:
    """The attention of a model that looks it up in transformers' attention interface.

    Attributes:
        configs: from `configs_of`.
        mask: the mask function of runs that do not choose another.
    """

    configs: Sequence[PreTrainedConfig]
    mask: MaskFunction = sdpa_mask

    @contextmanager
    def route(self, handler: AttentionHandler, interface: str = INTERFACE) -> Iterator[None]:
        """A context in which the model's attention is computed by a handler.

        The configs' attention implementations are restored afterwards.

        Args:
            handler: computes the attention. It is seen by the current thread only; meanwhile other
                threads get a RuntimeError from the model.
            interface: the name of a registered attention function, which may use the handler.
        """
        before = [config._attn_implementation for config in self.configs]
        token = _handler.set(handler._replace(mask=handler.mask or self.mask))
        try:
            for config in self.configs:
                set_implementation(config, interface)
            yield
        finally:
            _handler.reset(token)
            for config, implementation in zip(self.configs, before, strict=True):
                set_implementation(config, implementation)

    @contextmanager
    def checked(self, batch: TokenBatch) -> Iterator[None]:
        """A context in which PyTorch's kernels for the CPU hide no NaN of the model's own attention.

        Args:
            batch: the inputs that will be run.
        """
        checked = ("sdpa", UNEVEN["sdpa"])
        own = [config for config in self.configs if config._attn_implementation in checked]
        if not own:  # another attention function, or one that is routed already
            yield
            return
        with InterfaceAttention(own).route(AttentionHandler(batch, _not_visited), CHECKED):
            yield


def _not_visited(module: nn.Module, inputs: AttentionInputs) -> HeadVectors:
    raise AssertionError("a model's own attention is not visited")


def set_implementation(config: PreTrainedConfig, implementation: str | None) -> None:
    """Choose how the modules with a config compute attention, but not those of configs within it.

    Args:
        config: from `configs_of`.
        implementation: a name registered with transformers, or None.
    """
    config._attn_implementation = {"": implementation}
