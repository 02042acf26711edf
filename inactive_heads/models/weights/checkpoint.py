"""Reading weights and tokenizers from local files: hub-layout folders and .gguf files.

Nothing here touches the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from inactive_heads.errors import UserError
from inactive_heads.models.devices import DTYPES
from inactive_heads.models.weights.completeness import check_all_used, check_report
from inactive_heads.models.weights.configuration import (
    check_causal,
    check_sizes,
    loader_of,
    read_description,
)
from inactive_heads.models.weights.gguf.load import GgufFile
from inactive_heads.models.weights.stored_tensors import (
    StoredTensor,
    read_headers,
    stores_float32_matrix,
    weight_files,
)
from inactive_heads.specs import DeviceMap
from inactive_heads.third_party import explained, quiet

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)

UNPACKED_AS_READ = ("mxfp4", "fp8")
"""Ways of quantizing whose weights transformers can unpack only while it reads them."""

NO_ADAPTER = {"subfolder": "no adapter"}
"""Keeps transformers from loading an adapter that lies beside the weights, unmerged."""


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights and tokenizer on disk. Files are opened only by its properties and methods.

        checkpoint = Checkpoint("my-model", Path("models/my-model"))
        network = checkpoint.network(torch.float32, "sdpa")

    Attributes:
        name: the model's name as shown to users.
        folder: the folder that has the files.
        gguf: the name of the .gguf file in it; empty for a folder in hub layout.
        revision: the commit hash on the hub; empty if it is not from the hub.
        trust_remote_code: whether code that came with the weights may be run.
        was_quantized: whether the folder's float32 weights were dequantized from a .gguf file.
        remedy: the advice in error messages about damaged files.
    """

    name: str
    folder: Path
    gguf: str = ""
    revision: str = ""
    trust_remote_code: bool = False
    was_quantized: bool = False
    remedy: str = "the file may be damaged or incomplete: get it again"

    adapter: ClassVar[str] = ""  # as in an `AdaptedCheckpoint`

    @cached_property
    def config(self) -> PretrainedConfig:
        """The model's configuration.

        Raises:
            UserError: it is missing or unreadable, needs code that may not be run, or does not
                describe a causal language model.
        """
        if self.gguf:
            return self._packed.config
        read_description(
            self.folder, self.name, self.remedy, trust_remote_code=self.trust_remote_code
        )
        with quiet(), explained(f"the configuration of {self.name!r} cannot be read", self.remedy):
            config = AutoConfig.from_pretrained(self.folder, **self._options())
        if self.revision:  # transformers fixes some tokenizers by the model's name on the hub
            config._name_or_path = self.name
        packed = getattr(config, "quantization_config", None)
        if isinstance(packed, dict) and packed.get("quant_method") in UNPACKED_AS_READ:
            packed["dequantize"] = (
                True  # else they stay packed on GPUs that multiply them as they are
            )
        check_causal(config, self.name)
        return config

    @property
    def narrow(self) -> bool:
        """Whether the weights are stored in 16 bits or fewer.

        Raises:
            UserError: they are missing or unreadable.
        """
        if self.gguf:
            return self._packed.narrow
        if self.quantization:
            return True
        return not stores_float32_matrix(self.stored)

    @cached_property
    def stored(self) -> list[StoredTensor]:
        """The tensors in the folder's weight files; empty for a .gguf file.

        Raises:
            UserError: they are missing or unreadable.
        """
        if self.gguf:
            return []
        explicit = getattr(self.config, "transformers_weights", None)
        files = weight_files(self.folder, self.remedy, explicit)
        return read_headers(files, self.folder, self.name, self.remedy)

    @property
    def quantization(self) -> str:
        """How the stored weights are or were quantized: "gguf", "bitsandbytes", …; empty if not."""
        if self.gguf or self.was_quantized:
            return "gguf"
        config = getattr(self.config, "quantization_config", None)
        if config is None:
            return ""
        method = config.get("quant_method") if isinstance(config, dict) else config.quant_method
        return str(getattr(method, "value", method) or "an unnamed method")

    def network(
        self, dtype: torch.dtype, attention: str | None, device_map: DeviceMap | None = None
    ) -> PreTrainedModel:
        """The model in evaluation mode, without gradients.

        Args:
            dtype: the dtype that weights are converted to; quantized weights are dequantized.
            attention: transformers' attention implementation, such as "eager"; None is the fastest
                that it offers for the model.
            device_map: how to spread the model over devices, in Hugging Face's format; None puts it
                on the CPU.

        Returns:
            The network with the stored weights.

        Raises:
            UserError: the weights are missing, damaged, incomplete, pickled, of other sizes than
                the configuration says, or quantized in a way that cannot be dequantized here.
        """
        if self.gguf:
            return self._packed.network(dtype, attention, device_map).eval().requires_grad_(False)
        check_sizes(self.config, self.stored, self.name)
        remedy = self.remedy
        if self.quantization not in ("", "gguf"):
            remedy = (
                f"they are quantized by {self.quantization}: install what it needs, or give the "
                "model's unquantized form or a .gguf file"
            )
        problem = f"the weights of {self.name!r} cannot be loaded"
        with quiet(), explained(problem, remedy):
            loaded: Any = loader_of(self.config).from_pretrained(
                self.folder,
                config=self.config,
                dtype=dtype,
                attn_implementation=attention,
                device_map=device_map,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, with an error that states the sizes
                adapter_kwargs=NO_ADAPTER,
                use_safetensors=True,
                **self._options(),
            )
            network, report = loaded
            if getattr(network, "_hf_peft_config_loaded", False):
                raise UserError(
                    f"transformers {transformers.__version__} loads the adapter in {self.folder} with "
                    "the model: move the adapter's files to a folder of their own, and give that"
                )
            check_report(report, self.stored, self.name, self.remedy)
            self._check_used(network, report)
            if _is_quantized(network):
                network = network.dequantize()
        if self.quantization:
            _forget_quantization(network)
            for parameter in network.parameters():  # buffers, such as frequencies, stay as they are
                parameter.data = parameter.data.to(dtype)
        ready: PreTrainedModel = network.eval().requires_grad_(False)
        return ready

    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer stored with the weights.

        Returns:
            The tokenizer, or None if there is none.

        Raises:
            UserError: it cannot be read.
        """
        if self.gguf:
            return self._packed.tokenizer()
        # Without any tokenizer file, transformers makes a tokenizer with an empty vocabulary.
        if not has_tokenizer(self.folder):
            return None
        options = self._options()
        if (self.folder / "config.json").exists():  # a folder may have only a tokenizer
            options["config"] = self.config
        hint = "give another with tokenizer=..."
        with quiet(), explained(f"the tokenizer of {self.name!r} cannot be read", hint):
            return AutoTokenizer.from_pretrained(self.folder, **options)

    def _check_used(self, network: PreTrainedModel, report: dict[str, Any]) -> None:
        # Packed weights have other names in the network.
        stored = [] if self.quantization not in ("", "gguf") else self.stored
        check_all_used(stored, network, report.get("unexpected_keys", ()), self.name)

    def _options(self) -> dict[str, Any]:
        return {"local_files_only": True, "trust_remote_code": self.trust_remote_code}

    @cached_property
    def _packed(self) -> GgufFile:
        return GgufFile(self.folder / self.gguf)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has files of a tokenizer.

    Args:
        folder: the folder.

    Returns:
        Whether one of `TOKENIZER_FILES` is there.
    """
    return any((folder / file).exists() for file in TOKENIZER_FILES)


def _is_quantized(network: PreTrainedModel) -> bool:
    """Whether the weights are still quantized in memory."""
    return any(
        weight.dtype not in DTYPES.values() for weight in network.parameters() if weight.ndim > 1
    )


def _forget_quantization(network: PreTrainedModel) -> None:
    """Turns a model whose weights have been dequantized into an ordinary one."""
    for owner, name in ((network, "hf_quantizer"), (network.config, "quantization_config")):
        if name in vars(owner):
            delattr(owner, name)
