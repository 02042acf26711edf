"""Reading weights and tokenizers from local files: hub-layout folders and .gguf files.

Nothing here touches the network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
)

from inactive_heads.errors import UserError
from inactive_heads.models.devices import DTYPES
from inactive_heads.models.weights.gguf.load import GgufFile
from inactive_heads.models.weights.hub import WEIGHTS, WEIGHTS_INDEX
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

    @cached_property
    def config(self) -> PretrainedConfig:
        """The model's configuration.

        Raises:
            UserError: it is missing or unreadable, needs code that may not be run, or does not
                describe a causal language model.
        """
        if self.gguf:
            return self._packed.config
        self._check_description()
        with quiet(), explained(f"the configuration of {self.name!r} cannot be read", self.remedy):
            config = AutoConfig.from_pretrained(self.folder, **self._options())
        if self.revision:  # transformers fixes some tokenizers by the model's name on the hub
            config._name_or_path = self.name
        self._check_causal(config)
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
        with explained(f"the weights of {self.name!r} cannot be read", self.remedy):
            return not _has_float32_matrix(self._weight_files()[0])

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
        self._weight_files()
        remedy = self.remedy
        if self.quantization not in ("", "gguf"):
            remedy = (
                f"they are quantized by {self.quantization}: install what it needs, or give the "
                "model's unquantized form or a .gguf file"
            )
        problem = f"the weights of {self.name!r} cannot be loaded"
        with quiet(), explained(problem, remedy):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                self.folder,
                config=self.config,
                dtype=dtype,
                attn_implementation=attention,
                device_map=device_map,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, with an error that states the sizes
                use_safetensors=True,
                **self._options(),
            )
            network, report = loaded
            self._check_complete(report)
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
        if not any((self.folder / file).exists() for file in TOKENIZER_FILES):
            return None
        options = self._options()
        if (self.folder / "config.json").exists():  # a folder may have only a tokenizer
            options["config"] = self.config
        hint = "give another with tokenizer=..."
        with quiet(), explained(f"the tokenizer of {self.name!r} cannot be read", hint):
            return AutoTokenizer.from_pretrained(self.folder, **options)

    def _options(self) -> dict[str, Any]:
        return {"local_files_only": True, "trust_remote_code": self.trust_remote_code}

    @cached_property
    def _packed(self) -> GgufFile:
        return GgufFile(self.folder / self.gguf)

    def _check_description(self) -> None:
        path = self.folder / "config.json"
        if not path.exists():
            raise UserError(
                f"the folder {self.folder} has no config.json: give a folder as "
                "`save_pretrained` writes it, or the path of a .gguf file"
            )
        with explained(f"{path} cannot be read", self.remedy):
            description = json.loads(path.read_text(encoding="utf-8"))
            own_code = "auto_map" in description
            known = description.get("model_type") in CONFIG_MAPPING_NAMES
        if own_code and not known and not self.trust_remote_code:
            raise UserError(
                f"{self.name!r} is of a type that transformers {transformers.__version__} does not "
                "have, and brings its own code. If you trust it, pass trust_remote_code=True "
                "(--trust-remote-code): that runs the repository's code on this machine"
            )

    def _check_causal(self, config: PretrainedConfig) -> None:
        written = ", ".join(config.architectures or []) or type(config).__name__
        if config.is_encoder_decoder:
            raise UserError(
                f"{self.name!r} ({written}) is an encoder-decoder; only decoders (causal language "
                "models) can be scored"
            )
        # is_decoder is no help: it is False in GPT-NeoX. Encoders have a masked-LM class.
        encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(
            config, "is_decoder", True
        )
        own = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
        if encoder or not (type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or own):
            raise UserError(
                f"{self.name!r} ({written}) is not a causal language model; only decoders can be scored"
            )

    def _weight_files(self) -> list[Path]:
        index, single = self.folder / WEIGHTS_INDEX, self.folder / WEIGHTS
        if single.exists():
            return [single]
        if index.exists():
            with explained(f"{index} cannot be read", self.remedy):
                names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            missing = [name for name in names if not (self.folder / name).exists()]
            if missing or not names:
                raise UserError(
                    f"{self.folder} lacks {len(missing)} of the {len(names)} weight files that "
                    f"{WEIGHTS_INDEX} names: {', '.join(missing[:3])}; {self.remedy}"
                )
            return [self.folder / name for name in names]
        if any(self.folder.glob("*.bin")) or any(self.folder.glob("*.pt*")):
            raise UserError(
                f"the weights in {self.folder} are pickle files, which are refused because loading "
                "them can run code; convert them to safetensors "
                "(https://huggingface.co/docs/safetensors/convert-weights)"
            )
        packed = sorted(self.folder.glob("*.gguf"))
        advice = f"; give the path {packed[0]}" if packed else ""
        raise UserError(
            f"the folder {self.folder} has no weights ({WEIGHTS} or {WEIGHTS_INDEX}){advice}"
        )

    def _check_complete(self, report: dict[str, Any]) -> None:
        missing = sorted(report["missing_keys"])
        if missing:
            raise UserError(
                f"the weights of {self.name!r} lack {len(missing)} tensors of the model, among them "
                f"{', '.join(missing[:3])}; {self.remedy}"
            )
        for name, stored, expected in sorted(report["mismatched_keys"]):
            raise UserError(
                f"the weights of {self.name!r} do not fit its configuration: {name} is stored with "
                f"shape {tuple(stored)}, and the model's is {tuple(expected)}; {self.remedy}"
            )
        if report.get("error_msgs"):
            message = " ".join(str(report["error_msgs"][0]).split())
            raise UserError(
                f"the weights of {self.name!r} cannot be loaded: {message[:300]}; {self.remedy}"
            )


def _has_float32_matrix(file: Path) -> bool:
    # Vectors do not count: norms are often stored in float32 next to 16-bit matrices.
    with safe_open(file, framework="pt") as tensors:
        slices = (tensors.get_slice(name) for name in tensors.keys())  # noqa: SIM118
        return any(s.get_dtype() in ("F32", "F64") and len(s.get_shape()) == 2 for s in slices)


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
