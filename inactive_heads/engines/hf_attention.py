"""The attention function registered with transformers, and the run that it shows layers to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.masking_utils import sdpa_mask

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors
from inactive_heads.engines.attention import AttentionInputs
from inactive_heads.errors import UserError

INTERFACE = "inactive_heads"
"""The name under which transformers knows this engine's attention."""

IGNORED = {"position_ids", "cache_position", "hidden_states"}
"""Tensors that models hand to any attention function and that do not change the softmax."""


class Run(NamedTuple):
    """What a model's attention layers are shown to while they run, and where masks come from."""

    batch: TokenBatch
    visit: Callable[[nn.Module, AttentionInputs], HeadVectors]
    # A boolean mask, or None where attention is plainly causal. A window or left padding costs
    # one byte per query and key, shared by all heads and layers; SDPA is given the same.
    mask: Callable[..., Tensor | None] = sdpa_mask


_running: ContextVar[Run | None] = ContextVar("inactive_heads_running", default=None)


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
    **others: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers' models call by the name `INTERFACE`."""
    run = _current()
    subject = f"a layer {type(module).__name__}"
    unknown = [name for name, given in others.items() if isinstance(given, Tensor)]
    if unknown := sorted(set(unknown) - IGNORED):
        raise unsupported(subject, f"gives its attention {', '.join(unknown)}")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and not causal:
        raise unsupported(subject, "lets tokens see later ones")
    inputs = AttentionInputs(
        query=query,
        key=key,
        value=value,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        first=run.batch.first,
        mask=attention_mask,
        softcap=softcap,
        sinks=s_aux,
    )
    return run.visit(module, inputs), None


def _mask(**asked: Any) -> Tensor | None:
    """The function that transformers asks for masks by the name `INTERFACE`."""
    return _current().mask(**asked)


def _current() -> Run:
    run = _running.get()
    if run is None:
        raise RuntimeError("the model is being run by a FlashEngine in another thread")
    return run


AttentionInterface.register(INTERFACE, _attention)
AttentionMaskInterface.register(INTERFACE, _mask)


def configs_of(network: PreTrainedModel) -> list[PreTrainedConfig]:
    """Every config in which a module of the network looks up what computes its attention."""
    found = (getattr(module, "config", None) for module in network.modules())
    configs = {id(config): config for config in found if isinstance(config, PreTrainedConfig)}
    return list(configs.values())


@contextmanager
def attention_by(configs: list[PreTrainedConfig], run: Run) -> Iterator[None]:
    """Attention layers with these configs are shown to ``run``; afterwards all is as it was."""
    before = [config._attn_implementation for config in configs]
    token = _running.set(run)
    try:
        for config in configs:
            config._attn_implementation = {"": INTERFACE}  # this one, not those inside it
        yield
    finally:
        _running.reset(token)
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = {"": implementation}


def unsupported(subject: str, what: str) -> UserError:
    """What is raised where a model computes attention in a way that this engine does not know."""
    return UserError(f'{subject} {what}: engine="flash" cannot show its heads; use engine="lens"')
