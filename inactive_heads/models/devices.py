"""Which device a model runs on, and in which dtype."""

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
    """The device of a given name.

    Args:
        device: "auto" (CUDA if available, otherwise the CPU), "cpu", "cuda" or "cuda:N".

    Returns:
        The device.

    Raises:
        UserError: an unknown name, or a device that this machine does not have.
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
    """The dtype of a given name, or for "auto" the fastest that loses next to no precision.

    "auto" keeps float32 weights in float32. Weights stored in 16 bits or fewer (``narrow``) stay in
    16 bits if the device multiplies them natively: bfloat16 on GPUs that support it and on CPUs
    with AMX, float16 on older GPUs. On other devices they are widened to float32.

    Args:
        dtype: "auto" or a name in `DTYPES`.
        device: where the model will run.
        narrow: whether the weights are stored in 16 bits or fewer; used for "auto" only.

    Returns:
        The dtype.

    Raises:
        UserError: an unknown name.
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
    """Whether this CPU has matrix units for bfloat16 (AMX), according to PyTorch.

    Returns:
        False if PyTorch does not know.
    """
    # The public function is new; PyTorch 2.6 has only the private one.
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe()) if probe is not None else False


def devices_of(network: PreTrainedModel, name: str) -> str:
    """The devices that hold a model's weights.

    Args:
        network: the model, spread by ``device_map`` or not.
        name: the model's name, used in the error message.

    Returns:
        Their names, separated by commas: "cuda:0, cuda:1".

    Raises:
        UserError: parts of the model are offloaded to disk, or to main memory although GPUs are
            used, so that their weights cannot be read.
    """
    devices = {str(place) for place in getattr(network, "hf_device_map", {}).values()}
    devices = {f"cuda:{place}" if place.isdecimal() else place for place in devices}
    offloaded = devices & {"disk", "meta"}
    if any(place.startswith("cuda") for place in devices):
        offloaded |= devices & {"cpu"}
    if offloaded:
        raise UserError(
            f"{name!r} does not fit on the GPUs: device_map leaves parts of it on "
            f"{', '.join(sorted(offloaded))}; give a smaller dtype or more GPUs"
        )
    return ", ".join(sorted(devices)) or str(network.device)
