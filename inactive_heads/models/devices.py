"""Which device a model runs on and in which floating-point type."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from inactive_heads.errors import UserError

DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def choose_device(device: str = "auto") -> torch.device:
    """The device named: "auto" (CUDA if there is any), "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: another name, or a device this machine does not have.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or (":" in device and not number.isdecimal())):
        raise UserError(f"device={device!r} is unknown; give 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device={device!r} is not available: PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices here; give 'cpu' or 'auto'"
        )
    return torch.device(device)


def choose_dtype(dtype: str, device: torch.device, *, narrow: bool) -> torch.dtype:
    """The floating-point type named, or for "auto" the fastest that loses next to nothing.

    "auto" keeps float32 weights in float32. Weights stored in 16 bits or fewer (``narrow``)
    stay in 16 bits where the device multiplies them natively: bfloat16 on GPUs that have it and
    on CPUs with AMX, float16 on older GPUs. Elsewhere they are widened to float32.

    Raises:
        UserError: not the name of a floating-point type.
    """
    if dtype != "auto":
        if dtype not in DTYPES:
            raise UserError(
                f"dtype={dtype!r} is unknown; give 'auto' or one of {', '.join(DTYPES)}"
            )
        return DTYPES[dtype]
    if not narrow:
        return torch.float32
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has matrix units for bfloat16 (AMX), as far as PyTorch tells."""
    # The public function is new; the private one is what PyTorch 2.6 has.
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe()) if probe is not None else False


def devices_of(network: PreTrainedModel, name: str) -> str:
    """The devices that a model spread by ``device_map`` lies on, as one name.

    Raises:
        UserError: parts of it lie where they do not run (offloaded to the disk, or to the
            memory beside GPUs): their weights are not there to be read.
    """
    found = {str(place) for place in getattr(network, "hf_device_map", {}).values()}
    found = {f"cuda:{place}" if place.isdecimal() else place for place in found}
    beside = found & {"disk", "meta"}
    if any(place.startswith("cuda") for place in found):
        beside |= found & {"cpu"}
    if beside:
        raise UserError(
            f"{name!r} does not fit on the GPUs: device_map leaves parts of it on "
            f"{', '.join(sorted(beside))}; give a smaller dtype or more GPUs"
        )
    return ", ".join(sorted(found)) or str(network.device)
