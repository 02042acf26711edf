"""Weights with an adapter of PEFT (LoRA and its relatives) merged into them."""

from __future__ import annotations

import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.weights.checkpoint import Checkpoint, has_tokenizer
from inactive_heads.models.weights.hub import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from inactive_heads.models.weights.stored_tensors import StoredTensor, read_headers
from inactive_heads.specs import DeviceMap
from inactive_heads.third_party import explained, quiet

REMEDY = "the adapter may be damaged, incomplete or of another base: get it again"
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}
"""By how much logits may change when an adapter is merged, relative to the largest."""
ROUNDING_16_BITS = 0.05


@dataclass(frozen=True)
class AdaptedCheckpoint:
    """A checkpoint with an adapter merged into it; it can stand in for a `Checkpoint`.

    Attributes:
        name: the adapter's name as shown to users.
        base: the model that the adapter was trained on.
        folder: the folder that has the adapter.
        revision: the adapter's commit hash on the hub; empty if it is not from the hub.
    """

    name: str
    base: Checkpoint | AdaptedCheckpoint
    folder: Path
    revision: str = ""

    @property
    def adapter(self) -> str:
        """What is merged into what, for results."""
        kind = _description(self.folder).get("peft_type")
        commit = f" at {self.base.revision}" if self.base.revision else ""
        below = f", itself {self.base.adapter}" if self.base.adapter else ""
        return f"{kind} {self.name} merged into {self.base.name}{commit}{below}"

    @property
    def narrow(self) -> bool:
        """Whether the base's weights are stored in 16 bits or fewer."""
        return self.base.narrow

    @property
    def quantization(self) -> str:
        """How the base's stored weights are or were quantized."""
        return self.base.quantization

    @property
    def stored(self) -> list[StoredTensor]:
        """The tensors of the adapter and of its base."""
        with _of_peft(self.name):
            return [*self._tensors(), *self.base.stored]

    def network(
        self, dtype: torch.dtype, attention: str | None, device_map: DeviceMap | None = None
    ) -> PreTrainedModel:
        """The base's network with the adapter merged into its weights.

        Args:
            dtype: as in `Checkpoint.network`; the adapter is merged in this dtype, as PEFT does.
            attention: as there.
            device_map: as there.

        Returns:
            The network, in evaluation mode, without gradients.

        Raises:
            UserError: PEFT is not installed, the adapter cannot be merged, does not fit its base or
                is not used whole, or merging changes what the model computes.
        """
        if importlib.util.find_spec("peft") is None:
            raise UserError(
                f"{self.name!r} is an adapter ({_description(self.folder).get('peft_type')}) of "
                f"{self.base.name!r}: `pip install peft` to merge it, or give a merged model"
            )
        tensors = self._tensors()
        network = self.base.network(dtype, attention, device_map)
        with quiet(), _of_peft(self.name):
            adapted = _adapted(network, self.folder, self.name)
            _check_whole(adapted, tensors, self.name)
            ids = torch.arange(1, 9, device=network.device)[None] % network.config.vocab_size
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they are about is compared below
                before = adapted(input_ids=ids).logits
                merged: PreTrainedModel = adapted.merge_and_unload()
                after = merged(input_ids=ids).logits
        change = (after - before).abs().max() / before.abs().max()
        if bool(before.isfinite().all()) and change > ROUNDING.get(dtype, ROUNDING_16_BITS):
            raise UserError(
                f"the adapter {self.name!r} cannot be merged: its logits would change by "
                f"{100 * float(change):.2g}%, as some kinds (and tied embeddings) do; give a merged "
                "model"
            )
        return merged.eval().requires_grad_(False)

    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer beside the adapter, or else the base's.

        Returns:
            The tokenizer, or None if neither has one.

        Raises:
            UserError: it cannot be read.
        """
        if has_tokenizer(self.folder):
            own = Checkpoint(self.name, self.folder, revision=self.revision)
            return own.tokenizer()
        return self.base.tokenizer()

    def _tensors(self) -> list[StoredTensor]:
        file = self.folder / ADAPTER_WEIGHTS
        if not file.exists():
            raise UserError(
                f"the adapter {self.name!r} has no {ADAPTER_WEIGHTS}: get it, or convert its "
                "adapter_model.bin; pickle files are refused because loading them can run code"
            )
        return read_headers([file], self.folder, self.name, REMEDY)


def base_of(folder: Path) -> str:
    """The name of the model that an adapter was trained on.

    Args:
        folder: a folder with adapter_config.json.

    Returns:
        A hub name or a path, as the file has it.

    Raises:
        UserError: the file cannot be read, or names no base.
    """
    base = _description(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise UserError(
            f"{folder / ADAPTER_CONFIG} names no base (base_model_name_or_path is {base!r:.40}): "
            "write the base's hub name or path there"
        )
    return base


def _description(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTER_CONFIG
    with explained(f"{path} cannot be read", REMEDY):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError(f"it is a {type(found).__name__}, not an object")
    return found


def _of_peft(name: str) -> Any:
    return explained(f"the adapter {name!r} cannot be merged", REMEDY)


def _adapted(network: PreTrainedModel, folder: Path, name: str) -> Any:
    """PEFT's model of a network and an adapter, not merged yet."""
    from peft import PeftConfig, PeftModel

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        config = PeftConfig.from_pretrained(str(folder))
    for one in said:  # such as settings that this version of PEFT does not know
        message = " ".join(str(one.message).split())
        warnings.warn(f"the adapter {name!r}: {message[:200]}", Notice, stacklevel=2)
    if config.is_prompt_learning or not config.peft_type:
        raise UserError(
            f"{name!r} is an adapter of the kind {config.peft_type}, which adds to the input and "
            "cannot be merged into weights; only adapters of weights (LoRA, …) can be used"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `_check_whole` compares what is stored and what is used
        return PeftModel.from_pretrained(network, str(folder), config=config).eval()


def _check_whole(adapted: Any, tensors: list[StoredTensor], name: str) -> None:
    """Refuse an adapter that is not used whole."""
    from peft import get_peft_model_state_dict

    stored = {one.name for one in tensors}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        needed, known = (
            set(get_peft_model_state_dict(adapted, save_embedding_layers=embeddings))
            for embeddings in (False, True)  # embeddings may be stored without being adapted
        )
    for odd, what in ((stored - needed - known, "not used by"), (needed - stored, "missing for")):
        if odd:
            raise UserError(
                f"the adapter {name!r} does not fit its base: {len(odd)} tensors are {what} it, among "
                f"them {', '.join(sorted(odd)[:2])}; give the base that it was trained on"
            )
