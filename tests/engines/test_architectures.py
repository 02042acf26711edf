"""One architecture of every kind by both engines, and the page about all of them.

`make architectures` checks all and writes docs/architectures.md.
"""

from __future__ import annotations

import os
import re
import time
from functools import partial

import pytest
from helpers import architecture_checks
from helpers.architecture_checks import CRASHED, ENGINES, REFUSED, WRONG, YES, check
from helpers.architecture_table import PAGE, versions
from helpers.own_process import DIES, HANGS, isolated
from helpers.projections import PROJECTIONS, projections
from helpers.tiny_architectures import NOT_BUILT, NOT_DECODERS, architectures, tiny_architecture
from helpers.tiny_presets import preset_models
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from inactive_heads.core.activations import HeadActivations
from inactive_heads.engines.base import Silence

RIGHT = [
    pytest.param("gpt2", ["flash", "lens"], id="plain"),
    pytest.param("llama", ["flash"], id="grouped"),
    pytest.param("cohere", ["flash"], id="parallel block"),
    pytest.param("gemma2", ["flash"], id="windows and soft caps"),
    pytest.param("gpt_neo", ["lens"], id="attention of its own"),
    pytest.param("gpt_oss", ["flash"], id="sinks"),
    pytest.param("deepseek_v3", ["flash"], id="latent keys and values"),
    pytest.param("mixtral", ["flash"], id="experts"),
    pytest.param("bloom", ["lens"], id="position bias"),
    pytest.param("qwen3_next", ["flash"], id="gated hybrid"),
    pytest.param("bitnet", ["flash"], id="normed before W_O"),
    pytest.param("lfm2", ["flash"], id="hybrid"),
    pytest.param("olmo2", ["flash", "lens"], id="normed after attention"),
    pytest.param("deepseek_v32", ["flash"], id="sparse attention by an indexer"),
    pytest.param("bart", ["flash"], id="decoder of a pair"),
    pytest.param("gemma3", ["flash"], id="composite"),
    pytest.param("bert", ["flash"], id="projection beside the attention"),
    pytest.param("moshi", ["flash"], id="projection in a wrapper"),
]
REFUSED_BY_BOTH = {
    "runs layers several times": "hrm_text",
    "sees later tokens": "cpmant",
    "no projection": "jetmoe",
}


@pytest.mark.parametrize(("model_type", "engines"), RIGHT)
def test_a_kind_is_right(model_type, engines):
    for engine in engines:
        found = check(model_type, engine, partial(tiny_architecture, model_type))
        assert found.status == YES, f"{engine}: {found.reason}"


def test_a_bridge_that_computes_something_else_is_refused():
    found = check("falcon", "lens", partial(tiny_architecture, "falcon"))
    assert found.status == REFUSED
    assert "other logits" in found.reason


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", REFUSED_BY_BOTH)
def test_what_cannot_be_shown_is_refused_with_a_reason(kind, engine):
    model_type = REFUSED_BY_BOTH[kind]
    found = check(model_type, engine, partial(tiny_architecture, model_type))
    assert found.status == REFUSED
    assert found.reason


@pytest.mark.parametrize(
    ("fault", "of", "noticed"),
    [
        (property(lambda self: self.outputs.float() * 1.001), (HeadActivations, "z"), "z"),
        (lambda self, z: z, (Silence, "apply"), "zeroing"),
        (
            property(lambda self: self.attention.entropy() + 0.001),
            (HeadActivations, "entropy"),
            "attention",
        ),
        (
            lambda self, values: values.mean(dim=1),
            (HeadActivations, "mean_over_tokens"),
            "padding",
        ),
    ],
    ids=["z", "zeroing", "attention", "padding"],
)
def test_a_fault_of_the_engine_is_noticed(fault, of, noticed, monkeypatch):
    monkeypatch.setattr(*of, fault)
    found = check("llama", "flash", partial(tiny_architecture, "llama"))
    assert found.status == WRONG
    assert found.checks[noticed].startswith(WRONG)


def test_an_error_that_is_no_users_is_a_crash(monkeypatch):
    def fail(network):
        raise RuntimeError("no memory")

    monkeypatch.setitem(architecture_checks.ENGINES, "flash", fail)
    found = check("llama", "flash", partial(tiny_architecture, "llama"))
    assert (found.status, found.reason) == (CRASHED, "RuntimeError: no memory")


def test_every_listed_projection_is_there():
    for model_type in PROJECTIONS:
        assert projections(tiny_architecture(model_type)), model_type


@pytest.mark.parametrize(
    ("call", "given", "expected"),
    [
        (os.getenv, ("NO_SUCH_NAME", "a default"), "a default"),
        (time.sleep, (60,), HANGS),
        (os._exit, (3,), DIES),
    ],
)
def test_a_call_in_its_own_process_returns_hangs_or_dies(call, given, expected):
    assert isolated(call, *given, seconds=1, memory=2**30) == expected


def test_the_page_is_of_the_installed_versions_and_of_all_types():
    page = PAGE.read_text("utf-8")
    assert f"With {versions()}." in page, "docs/architectures.md is out of date: make architectures"
    rows = re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert set(rows) == {*architectures(), *NOT_DECODERS, *NOT_BUILT}
    shown = {name for row in preset_models().values() for name in row}
    assert all(f"`{name}`" in page for name in shown), "presets are missing: make architectures"
