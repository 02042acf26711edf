"""A network runs as it was when its engine was made, whatever the caller has changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from inactive_heads.core.settings import default_settings
from inactive_heads.engines.network.forward_pass import run_lock
from inactive_heads.engines.network.rotary import RotaryAngles
from inactive_heads.engines.routing.hf_attention import configs_of, set_implementation
from inactive_heads.errors import UserError


class NetworkState:
    """What a network's results depend on beside its weights, as it is now.

    Args:
        network: the model.

    Attributes:
        angles: the rotary embeddings whose angles depend on an input's length.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._modules = dict(network.named_modules())
        self._implementations = [
            (config, config._attn_implementation) for config in configs_of(network)
        ]
        # Hooks that belong to the model.
        self._own_hooks = {
            id(hook) for module in self._modules.values() for hook in _own_hooks(module)
        }
        self.angles = RotaryAngles(network)

    @contextmanager
    def run(self, lengths: Callable[[], Sequence[int]]) -> Iterator[None]:
        """A context for one run, in which nothing that the caller has changed has an effect.

        Global settings of torch are at their defaults, no gradients are recorded, all modules are
        in evaluation mode (no dropout, no gradient checkpointing), attention is computed by the
        implementation that was chosen first, and rotary angles are each input's own. No other
        thread can run the model meanwhile. Everything is restored afterwards.

        Args:
            lengths: returns each input's length, in tokens.

        Raises:
            UserError: a hook that is not part of the model changes what it computes.
        """
        with run_lock(self._network), default_settings(), torch.no_grad(), ExitStack() as stack:
            self._guard_hooks(stack)
            for module in self._modules.values():
                if module.training:
                    module.training = False
                    stack.callback(setattr, module, "training", True)
            for config, implementation in self._implementations:
                if (changed := config._attn_implementation) != implementation:
                    set_implementation(config, implementation)
                    stack.callback(set_implementation, config, changed)
                if not getattr(config, "return_dict", True):
                    config.return_dict = True
                    stack.callback(setattr, config, "return_dict", False)
            if self.angles:
                stack.enter_context(self.angles.by_input(lengths()))
            yield

    def _guard_hooks(self, stack: ExitStack) -> None:
        """Lets the caller's hooks look, and refuses those that change anything."""
        for name, module in self._modules.items():
            if module._forward_hooks or module._forward_pre_hooks:
                for hooks in _hooks_of(module):
                    self._guard(hooks, f"module {name or 'model'!r}", stack)
        for hooks in (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks):
            self._guard(hooks, "all modules of torch", stack)

    def _guard(self, hooks: MutableMapping[int, Any], place: str, stack: ExitStack) -> None:
        for key, hook in hooks.items():
            if id(hook) not in self._own_hooks:
                hooks[key] = _guarded(hook, place)
                stack.callback(hooks.__setitem__, key, hook)


def _hooks_of(module: nn.Module) -> tuple[MutableMapping[int, Any], MutableMapping[int, Any]]:
    return module._forward_pre_hooks, module._forward_hooks


def _own_hooks(module: nn.Module) -> Iterator[Callable[..., Any]]:
    """The hooks on a module that are the model's. Those on hook points are the caller's, but for
    the ones by which TransformerLens itself makes up for modules that do not run (OPT's MLP)."""
    if not hasattr(module, "fwd_hooks"):
        for hooks in _hooks_of(module):
            yield from hooks.values()
        return
    handles: Any = module.fwd_hooks
    for handle in handles:
        origin = str(getattr(getattr(handle, "user_hook", None), "__module__", ""))
        if handle.is_permanent and origin.startswith("transformer_lens."):
            yield module._forward_hooks[handle.hook.id]


def _guarded(hook: Callable[..., Any], place: str) -> Callable[..., None]:
    def look(*args: Any, **kwargs: Any) -> None:
        if hook(*args, **kwargs) is not None:
            raise UserError(
                f"a hook on {place} changes what the model computes; remove it first, by remove() "
                "of its handle or reset_hooks() of TransformerLens"
            )

    return look
