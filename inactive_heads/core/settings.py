"""Global settings of torch, held at their defaults while numbers are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def default_settings() -> Iterator[None]:
    """A context, or a decorator, in which the caller's settings of torch have no effect on results.

    Within it, the default dtype is float32 and the default device the CPU; autocast and inference
    mode are off; and float32 products are computed in float32, not in TF32 or bfloat16. The
    caller's settings are restored afterwards.

        with default_settings():
            torch.zeros(3)  # float32 on the CPU
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        _use_full_precision(stack)
        yield


def _use_full_precision(stack: ExitStack) -> None:
    if not hasattr(torch.backends, "fp32_precision"):  # before PyTorch 2.9
        if (precision := torch.get_float32_matmul_precision()) != "highest":
            stack.callback(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("highest")
        return
    backends: Any = torch.backends
    for one in (backends.cuda.matmul, backends.mkldnn.matmul, backends.mkldnn.conv):
        before = one.fp32_precision
        effective = backends.fp32_precision if before == "none" else before
        if effective not in ("none", "ieee"):
            stack.callback(setattr, one, "fp32_precision", before)
            one.fp32_precision = "ieee"
