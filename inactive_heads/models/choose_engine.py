"""The choice of an engine: the one that was asked for, or the first that can show a network's heads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from inactive_heads.engines.base import Engine
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.engines.routing.hf_attention import configs_of, set_implementation
from inactive_heads.engines.routing.refusals import Unsupported, unsupported_if_it_fails
from inactive_heads.errors import NotFinite, Notice, UserError
from inactive_heads.models.weights.finite import check_finite, watch_products
from inactive_heads.models.weights.stored_tensors import StoredTensor
from inactive_heads.third_party import quiet

AUTO = "auto"
"""Stands for the first of `ENGINES` that can."""

MOST_OF_A_REASON = 120
"""The longest reason that a message about several engines quotes, in characters."""


@dataclass(frozen=True)
class EngineKind:
    """How an engine is made.

    Attributes:
        attention: the attention implementation that the network is loaded with; None is the fastest
            that transformers offers for the model.
        build: makes the engine of a network; the name is used in error messages. Raises
            `Unsupported` if the engine cannot show the network's heads.
        spreads: whether the network may be spread over devices by a ``device_map``.
        cost: what the engine costs beside the first one, as a relative clause.
    """

    attention: str | None
    build: Callable[[PreTrainedModel, str], Any]
    spreads: bool = False
    cost: str = "which may be slower"


def _lens_engine(network: PreTrainedModel, name: str) -> LensEngine:
    # The bridge makes parameters of its own where a model keeps q, k and v in one matrix.
    return LensEngine(bridge_of(network, name).requires_grad_(False))


ENGINES = {
    "flash": EngineKind(None, FlashEngine, spreads=True),
    "lens": EngineKind(
        "eager",
        _lens_engine,
        cost="which is slower and holds a layer's attention pattern in memory",
    ),
}
"""The engines by name, in the order in which "auto" tries them."""


@dataclass(frozen=True, eq=False)
class Choice:
    """An engine that can show a network's heads.

    Attributes:
        name: its name in `ENGINES`.
        engine: the engine.
        network: the network that it runs.
        refused: the engines that were tried before and cannot, with the reason of each, in which
            the model is "it".
    """

    name: str
    engine: Engine
    network: PreTrainedModel
    refused: dict[str, str] = field(default_factory=dict)


def choose_engine(
    load: Callable[[str | None], PreTrainedModel],
    name: str,
    wanted: str,
    stored: Sequence[StoredTensor] = (),
    *,
    spread: bool = False,
) -> Choice:
    """The engine that was asked for, or the first that can show the network's heads.

    Weights are loaded once: where the next engine needs another attention implementation, the
    network is switched to it.

    Args:
        load: loads the network with an attention implementation, as in `EngineKind.attention`.
        name: the model's name, used in messages.
        wanted: one of `ENGINES`, or "auto".
        stored: the tensors that the network is loaded from; see `check_finite`.
        spread: whether the network is spread over devices by a ``device_map``.

    Returns:
        The engine. A `Notice` says so if "auto" took another than the first.

    Raises:
        UserError: the engine that was asked for cannot show the heads, and the message names one
            that can, which was tried; or no engine can, and the message says why for each; or the
            model cannot be run, or has a weight that is no finite number.
    """
    others = [one for one in ENGINES if one != wanted]
    order = others if wanted == AUTO else [wanted, *others]
    if spread:
        order = [one for one in order if ENGINES[one].spreads]
    faults: dict[str, UserError] = {}
    restore: Callable[[], None]
    network = load(ENGINES[order[0]].attention)
    for one in order:
        if not _switched(network, ENGINES[one].attention):
            del network, restore  # so that there is room for it once more
            network = load(ENGINES[one].attention)
        restore = _snapshot(network)
        found = _built_of_numbers(one, network, name, stored)
        if isinstance(found, UserError):
            faults[one] = found
            restore()
            continue
        if wanted not in (AUTO, one):
            raise UserError(f'{_refusal(wanted, faults[wanted])}; use engine="{one}"')
        refused = _of_it(faults, network, name)
        for other, reason in refused.items():
            warnings.warn(
                f'{name!r} is run by engine="{one}", {ENGINES[one].cost}: '
                f'engine="{other}" cannot show its heads, as {reason}',
                Notice,
                stacklevel=2,
            )
        return Choice(one, found, network, refused)
    if spread:
        ((one, fault),) = faults.items()
        raise UserError(
            f"{_refusal(one, fault)}, and no other engine takes a device_map; without it, "
            'engine="auto" tries the others'
        )
    listed = [f"{one}: {_cut(reason)}" for one, reason in _of_it(faults, network, name).items()]
    fits = all(isinstance(fault, Unsupported) for fault in faults.values())
    raise UserError(
        f"no engine can show the heads of {_subject(network, name)}: {'; '.join(listed)}; "
        + ("this version cannot measure it" if fits else "check its files")
    )


def why_not(engine: str, network: PreTrainedModel, name: str) -> str:
    """The reason why an engine cannot show a network's heads, tried on the network.

    Args:
        engine: one of `ENGINES`.
        network: the network, which is as it was afterwards.
        name: the model's name, used in messages.

    Returns:
        The reason, in which the model is "it"; empty if the engine can.
    """
    restore = _snapshot(network)
    try:
        if not _switched(network, ENGINES[engine].attention):
            return "not tried, as the model's code came with its weights"
        _built(engine, network, name)
    except UserError as error:
        return _of_it({engine: error}, network, name)[engine]
    finally:
        restore()
    return ""


def _built_of_numbers(
    engine: str, network: PreTrainedModel, name: str, stored: Sequence[StoredTensor]
) -> Engine | UserError:
    """The engine of a network whose weights are all finite, or why it cannot be built."""
    found: Engine | UserError
    with watch_products(network) as products:
        try:
            found = _built(engine, network, name)
        except UserError as error:
            found = error
    # A damaged weight is the reason for whatever has failed.
    check_finite(network, name, stored, products.proven())
    if isinstance(found, NotFinite):
        raise found
    return found


def _built(engine: str, network: PreTrainedModel, name: str) -> Engine:
    problem = f"the engine fails on {_subject(network, name)}"
    with quiet(), unsupported_if_it_fails(problem, engine):
        built: Engine = ENGINES[engine].build(network, name)
    return built


def _switched(network: PreTrainedModel, attention: str | None) -> bool:
    """Switches a network to an attention implementation, as if it had been loaded with it.

    False if it cannot be switched.
    """
    configs = configs_of(network)
    if attention is None or all(one._attn_implementation == attention for one in configs):
        return True
    if not type(network).__module__.startswith("transformers."):
        # Code that comes with weights may choose the classes of its layers by it.
        return False
    for config in configs:
        set_implementation(config, attention)
    return True


def _snapshot(network: nn.Module) -> Callable[[], None]:
    """Returns what makes a network's modules and configs what they are now.

    A bridge replaces modules of the network and patches others, even if it then fails.
    """
    owners = [vars(owner) for owner in (*network.modules(), *configs_of(network))]
    # Modules keep their parts in dictionaries, which others may hold.
    tables = owners + [table for one in owners for table in one.values() if isinstance(table, dict)]
    before = [(table, table.copy()) for table in tables]

    def restore() -> None:
        for table, content in before:
            table.clear()
            table.update(content)

    return restore


def _subject(network: nn.Module, name: str) -> str:
    return f"the architecture {type(network).__name__} of {name!r}"


def _of_it(faults: Mapping[str, UserError], network: nn.Module, name: str) -> dict[str, str]:
    """The reasons for readers who know which model they are about."""
    subject = _subject(network, name)
    return {engine: _reason(fault).replace(subject, "it") for engine, fault in faults.items()}


def _refusal(engine: str, fault: UserError) -> str:
    return f'{_reason(fault)}: engine="{engine}" cannot show its heads'


def _reason(fault: UserError) -> str:
    if isinstance(fault, Unsupported):
        return fault.reason
    problem, _, remedy = str(fault).rpartition("; ")  # the remedy of one engine, of no use here
    return problem or remedy


def _cut(reason: str) -> str:
    return reason if len(reason) <= MOST_OF_A_REASON else f"{reason[: MOST_OF_A_REASON - 1]}…"
