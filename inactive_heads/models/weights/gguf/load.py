"""Loads the model of a .gguf file: configuration, network, tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from gguf import GGMLQuantizationType
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from inactive_heads.errors import UserError
from inactive_heads.models.weights.gguf.architectures import (
    ARCHITECTURES,
    KNOWN_KEYS,
    REFUSED,
    Architecture,
)
from inactive_heads.models.weights.gguf.metadata import Metadata
from inactive_heads.models.weights.gguf.parts import StoredModel, read_model
from inactive_heads.models.weights.gguf.tensors import STORED_LAYER, listed, recipes, weight
from inactive_heads.models.weights.gguf.tokenizer import read_tokenizer
from inactive_heads.specs import DeviceMap
from inactive_heads.third_party import explained, quiet

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
FLOATS = (GGMLQuantizationType.F32, GGMLQuantizationType.F64)
ADVICE = "give the model's safetensors folder or hub name"


@dataclass(frozen=True)
class GgufFile:
    """A model in a .gguf file, or in several parts. It is read by properties and methods only.

        GgufFile(Path("model.gguf")).network(torch.float32, "sdpa")

    Attributes:
        path: the file, or any one of the parts.
    """

    path: Path

    @cached_property
    def stored(self) -> StoredModel:
        """Metadata and tensors, not read yet.

        Raises:
            UserError: a file is damaged, no language model, or a part is missing.
        """
        return read_model(self.path)

    @cached_property
    def architecture(self) -> Architecture:
        """How the model is read.

        Raises:
            UserError: models of its kind are not read.
        """
        name = self.stored.architecture
        if name in REFUSED:
            raise UserError(f"{self.path} is of the architecture {name!r}: {REFUSED[name]}")
        if name not in ARCHITECTURES:
            raise UserError(
                f"{self.path} is of the architecture {name!r}; in GGUF files only "
                f"{', '.join(ARCHITECTURES)} are read: {ADVICE}"
            )
        architecture = ARCHITECTURES[name]
        if architecture.model_type not in CONFIG_MAPPING_NAMES:
            raise UserError(
                f"{self.path} is of the architecture {name!r}, which transformers "
                f"{transformers.__version__} does not have: install a newer transformers"
            )
        return architecture

    @cached_property
    def config(self) -> PretrainedConfig:
        """The model's configuration; every setting in the file is in it, or is known not to matter.

        Raises:
            UserError: a setting is damaged, contradicts the tensors, or is not read here.
        """
        architecture, keys = self.architecture, Metadata(self.stored)
        self._check_sizes(keys)
        options = architecture.config(keys)
        keys.expect("attention.causal", True)
        keys.known(KNOWN_KEYS)
        if keys.unread():
            raise UserError(
                f"{self.path} has settings that are not read here: {listed(keys.unread())}; {ADVICE}"
            )
        options |= {
            "vocab_size": self.stored.tensors[EMBEDDING].shape[0],
            "tie_word_embeddings": OUTPUT not in self.stored.tensors,
            "bos_token_id": self._token("bos"),
            "eos_token_id": self._token("eos"),
            "pad_token_id": self._token("padding"),
        }
        with quiet(), explained(f"{self.path} has settings that do not fit", ADVICE):
            config: PretrainedConfig = AutoConfig.for_model(architecture.model_type, **options)
        for name, value in options.items():
            if not _holds(getattr(config, name, None), value):
                raise UserError(
                    f"{self.path}: transformers {transformers.__version__} makes "
                    f"{name}={getattr(config, name, None)!r:.80} of {value!r:.80}; {ADVICE}"
                )
        return config

    @property
    def narrow(self) -> bool:
        """Whether any matrix is stored in fewer than 32 bits.

        Raises:
            UserError: as `stored`.
        """
        tensors = self.stored.tensors.values()
        return any(len(each.shape) > 1 and each.kind not in FLOATS for each in tensors)

    def network(
        self, dtype: torch.dtype, attention: str | None, device_map: DeviceMap | None = None
    ) -> PreTrainedModel:
        """The model, every weight filled from the file and every tensor of the file used.

        Args:
            dtype: the dtype of the weights, which are unpacked to it.
            attention: transformers' attention implementation; None is the fastest it offers.
            device_map: how to spread the model over devices, in Hugging Face's format.

        Returns:
            The network.

        Raises:
            UserError: a tensor is missing, of another shape, not used, damaged, or of a type that
                cannot be unpacked.
        """
        with quiet(), explained(f"the model in {self.path} cannot be built", ADVICE):
            with torch.device("meta"):
                blank = AutoModelForCausalLM.from_config(self.config)
            shapes = blank.state_dict()
            weights = {}
            for name, recipe in recipes(self.stored, self.architecture, blank).items():
                made = weight(self.stored, name, recipe, shapes[name], self.config)
                # Some models keep vectors in float32: transformers narrows those itself.
                weights[name] = made.to(dtype) if made.ndim > 1 else made
            loaded: Any = type(blank).from_pretrained(
                None,
                config=self.config,
                state_dict=weights,
                dtype=dtype,
                attn_implementation=attention,
                device_map=device_map,
                use_safetensors=True,
                output_loading_info=True,
            )
        network: PreTrainedModel = loaded[0]
        left = loaded[1]["missing_keys"] | loaded[1]["unexpected_keys"]
        if left:
            raise UserError(f"the model in {self.path} cannot be filled: {listed(sorted(left))}")
        return network

    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer stored in the file; None if there is none.

        Raises:
            UserError: it is damaged, or of a kind that is not read here.
        """
        return read_tokenizer(self.stored)

    def _check_sizes(self, keys: Metadata) -> None:
        """Sizes in the metadata are those of the tensors, so that no absurd model is built."""
        embedding = self.stored.tensors.get(EMBEDDING)
        if embedding is None or len(embedding.shape) != 2:
            raise UserError(f"{self.path} has no matrix {EMBEDDING}: it holds no whole model")
        n_vocab, width = embedding.shape
        layers = {m[1] for m in map(STORED_LAYER.fullmatch, self.stored.tensors) if m}
        stated = {"embedding_length": width, "block_count": len(layers), "vocab_size": n_vocab}
        for key, size in stated.items():
            if (key != "vocab_size" or keys.has(key)) and keys.size(key) != size:
                raise keys.refusal(key, f"the tensors have {size}: get the file again")

    def _token(self, name: str) -> int | None:
        number = self.stored.metadata.get(f"tokenizer.ggml.{name}_token_id")
        is_token = isinstance(number, int) and 0 <= number < self.stored.tensors[EMBEDDING].shape[0]
        return number if is_token and isinstance(number, int) else None


def _holds(value: Any, given: Any) -> bool:
    """Whether a config has what it was given; it may have added to dicts."""
    if isinstance(given, dict):
        return isinstance(value, dict) and all(_holds(value.get(k), v) for k, v in given.items())
    return bool(value == given)
