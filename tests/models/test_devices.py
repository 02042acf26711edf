"""Which CPUs multiply bfloat16, by what PyTorch says of this one."""

import pytest
import torch

from inactive_heads.models.devices import choose_dtype, cpu_multiplies_bfloat16

CPU = torch.device("cpu")
UNITS = [
    ((), False),
    (("amx_bf16", "amx_tile"), True),
    (("avx512_bf16",), True),
    (("amx_bf16", "avx512_bf16"), True),
    # These alone do not multiply bfloat16.
    (("avx512_f", "avx512_vnni", "avx2"), False),
    (("amx_tile", "amx_int8"), False),
]


@pytest.mark.parametrize(("units", "multiplies"), UNITS)
@pytest.mark.parametrize("narrow", [True, False])
def test_auto_is_bfloat16_where_the_cpu_multiplies_it(monkeypatch, units, multiplies, narrow):
    known = {"architecture": "x86_64", "avx512_bf16": False} | dict.fromkeys(units, True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert cpu_multiplies_bfloat16() is multiplies
    # Weights that are stored in more than 16 bits keep them.
    expected = torch.bfloat16 if multiplies and narrow else torch.float32
    assert choose_dtype("auto", CPU, narrow=narrow) == expected
    assert choose_dtype("float32", CPU, narrow=narrow) == torch.float32


PROBES = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")


@pytest.mark.parametrize("has", [(False, False), (True, False), (False, True), (None, True)])
def test_before_pytorch_had_a_public_function(monkeypatch, has):
    """None stands for a function that PyTorch lacks."""
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for probe, answer in zip(PROBES, has, strict=True):
        if answer is None:
            monkeypatch.delattr(torch.cpu, probe, raising=False)
        else:
            monkeypatch.setattr(torch.cpu, probe, lambda answer=answer: answer, raising=False)
    assert cpu_multiplies_bfloat16() is any(has)


def test_a_pytorch_that_says_nothing_gets_float32(monkeypatch):
    for name in ("get_capabilities", *PROBES):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert cpu_multiplies_bfloat16() is False
    assert choose_dtype("auto", CPU, narrow=True) == torch.float32
