"""Which device a model runs on, and in which dtype."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from inactive_heads.checks import check_device, check_dtype
from inactive_heads.errors import UserError
from inactive_heads.names import DTYPE_NAMES

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}
"""The dtypes that a model can be loaded in, by name."""


def choose_device(device: str = "auto") -> torch.device:
    """The device of a given name.

    Args:
        device: "auto" (CUDA if available, otherwise the CPU), "cpu", "cuda" or "cuda:N".

    Returns:
        The device.

    Raises:
        UserError: an unknown name, or a device that this machine does not have.
    """
    check_device(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = device.partition(":")
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
    with AMX or AVX-512 BF16, float16 on older GPUs. On other devices they are widened to float32.

    Args:
        dtype: "auto" or a name in `DTYPES`.
        device: where the model will run.
        narrow: whether the weights are stored in 16 bits or fewer; used for "auto" only.

    Returns:
        The dtype.

    Raises:
        UserError: an unknown name.
    """
    check_dtype(dtype)
    if dtype != "auto":
        return DTYPES[dtype]
    if not narrow:
        return torch.float32
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16, according to PyTorch.

    These are the matrix units AMX and the vector instructions AVX-512 BF16.

    Returns:
        False if PyTorch does not know.
    """
    # The public function is new; PyTorch 2.6 has only private ones.
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return any(known.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


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
