"""Which engine a model gets: one that can show its heads, or one message that says why none can."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import transformers
from helpers.models_on_disk import save_folder
from helpers.only_lens import refuse_flash
from helpers.tiny_families import tiny
from helpers.tiny_models import SAMPLES
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.routing.refusals import Unsupported
from inactive_heads.errors import NotFinite
from inactive_heads.models.choose_engine import ENGINES, choose_engine, why_not
from inactive_heads.models.load import load

SMALL = {"num_key_value_heads": 2, "head_dim": 8}
GPTJ = {"rotary_dim": 4, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64}
MODELS = {
    # flash and lens
    "llama": ({}, "flash"),
    "gpt2": ({}, "flash"),
    "gemma2": ({}, "flash"),
    # TransformerLens has no bridge
    "persimmon": ({}, "flash"),
    "helium": (SMALL, "flash"),
    "nanochat": (SMALL, "flash"),
    # attention of their own
    "gptj": (GPTJ, "flash"),
    "gpt_neo": ({"attention_types": [[["global", "local"], 1], [["global"], 1]]}, "flash"),
    "bloom": ({}, "flash"),
    # neither
    "diffllama": (SMALL, None),
    "mamba": ({"state_size": 4}, None),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(family):
        if family not in made:
            place = tmp_path_factory.mktemp("models") / family
            made[family] = save_folder(place, tiny(family, **MODELS[family][0]), tokenizer=None)
        return made[family]

    return folder


@pytest.fixture
def only_lens(monkeypatch):
    return refuse_flash(monkeypatch)


def loaded(folder, engine="auto"):
    """The model, or the refusal, and the notices about it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = ih.load_model(folder, engine=engine)
        except ih.UserError as error:
            found = str(error)
    return found, [str(one.message) for one in said if issubclass(one.category, ih.Notice)]


@pytest.mark.parametrize("family", MODELS)
def test_auto_takes_an_engine_that_can(folders, family):
    expected = MODELS[family][1]
    model, notices = loaded(folders(family))
    if expected is None:
        assert model.startswith("no engine can show the heads of the architecture")
        assert f"of {family!r}: flash: it " in model
        assert "; lens: " in model
        assert "\n" not in model
        assert len(model) < 400
        return
    assert model.provenance["engine"] == model.spec.engine == model.engine.name == expected
    assert model.refused == {}
    assert notices == []


@pytest.mark.parametrize("family", ["llama", "gptj", "bloom"])
def test_auto_takes_lens_where_flash_cannot_and_says_why(folders, family, only_lens):
    model, (notice,) = loaded(folders(family))
    assert model.provenance["engine"] == model.spec.engine == model.engine.name == "lens"
    assert model.refused == {"flash": "it is a test"}
    assert notice.startswith(f'{family!r} is run by engine="lens", which is slower and holds')
    assert notice.endswith('engine="flash" cannot show its heads, as it is a test')
    assert len(notice) < 300


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", MODELS)
def test_a_refusal_names_no_engine_that_refuses_too(folders, family, engine):
    found, notices = loaded(folders(family), engine)
    assert notices == []
    if not isinstance(found, str):
        assert found.spec.engine == engine
        return
    recommended = [one for one in ENGINES if found.endswith(f'; use engine="{one}"')]
    others = {other: loaded(folders(family), other)[0] for other in ENGINES if other != engine}
    can = [other for other, answer in others.items() if not isinstance(answer, str)]
    assert recommended == can[:1]
    if not can:
        assert found.startswith("no engine can show the heads")
    assert "\n" not in found
    assert len(found) < 400


FALCON = {"num_kv_heads": 2, "alibi": False}
SWITCHED = ["llama", "gpt2", "gemma2", "phi3", "qwen3", "gptj", "gpt_neo", "falcon"]


@pytest.mark.parametrize("family", SWITCHED)
def test_a_network_is_loaded_once_and_switched(folders, family, monkeypatch, only_lens):
    monkeypatch.setitem(MODELS, "falcon", (FALCON, "lens"))
    for other in ("phi3", "qwen3"):
        monkeypatch.setitem(MODELS, other, ({}, "flash"))
    folder, reads = folders(family), []
    fresh = ih.load_model(folder, engine="lens")
    reader = transformers.AutoModelForCausalLM.from_pretrained

    def spying(*args, **options):
        reads.append(options["attn_implementation"])
        return reader(*args, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", spying)
    switched, _ = loaded(folder)
    assert reads == [None]
    assert [name for _, name in only_lens] == [family]
    assert switched.spec == fresh.spec
    assert switched.provenance == fresh.provenance
    scores = [ih.score_heads(model, SAMPLES, progress=False) for model in (switched, fresh)]
    np.testing.assert_array_equal(*scores)
    batch = TokenBatch.of(SAMPLES)
    assert torch.equal(*(model.engine.run(batch) for model in (switched, fresh)))


def test_code_that_came_with_weights_is_loaded_again(network, only_lens):
    """Its layers may be of other classes with another attention implementation."""
    asked = []

    def load_network(attention):
        asked.append(attention)
        return type("Own", (type(network),), {"__module__": "transformers_modules.own"})(
            network.config
        ).eval()

    network.set_attn_implementation("sdpa")
    with pytest.raises(ih.UserError, match="lens: TransformerLens has no bridge for it"):
        choose_engine(load_network, "own", "auto")
    assert asked == [None, "eager"]


def spoilt(change):
    """A lens engine that fails after its bridge has replaced the network's modules."""

    def build(network, name):
        ENGINES_BEFORE["lens"].build(network, name)
        return change(network)

    return type(ENGINES["lens"])("eager", build)


ENGINES_BEFORE = dict(ENGINES)


def refuse(network):
    raise Unsupported("it is a test", "lens")


FAILURES = {
    "refused": refuse,
    "crashed": lambda network: network.no_such_part,
    "crashed elsewhere": lambda network: {}["a key"],
}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "lfm2", "olmo2"])
@pytest.mark.parametrize("failure", FAILURES)
def test_flash_is_tried_on_the_network_as_it_was_before_a_bridge(family, failure, monkeypatch):
    monkeypatch.setitem(ENGINES, "lens", spoilt(FAILURES[failure]))
    network = tiny(family)
    batch = TokenBatch.of(SAMPLES)
    before = ENGINES["flash"].build(network, "mine").run(batch)
    names, own = list(network.state_dict()), dict(network.named_modules())
    implementation = network.config._attn_implementation
    assert why_not("lens", network, "mine")
    assert list(network.state_dict()) == names
    assert dict(network.named_modules()) == own
    assert network.config._attn_implementation == implementation
    assert torch.equal(ENGINES["flash"].build(network, "mine").run(batch), before)
    with pytest.raises(ih.UserError, match='engine="lens" cannot show its heads; use engine="fla'):
        choose_engine(lambda attention: tiny(family), "mine", "lens")


@pytest.mark.parametrize("family", ["llama", "gpt2", "persimmon"])
def test_why_not_asks_without_changing_a_model_in_use(folders, family):
    model = ih.load_model(folders(family))
    before = ih.score_heads(model, SAMPLES, progress=False)
    reason = why_not("lens", model.engine.network, family)
    assert bool(reason) == (family == "persimmon")
    assert reason in ("", "TransformerLens has no bridge for it")
    np.testing.assert_array_equal(ih.score_heads(model, SAMPLES, progress=False), before)


@pytest.mark.parametrize("crash", [KeyError("n_ctx"), AttributeError("no x"), RuntimeError("a\nb")])
def test_an_engine_that_crashes_is_one_that_cannot(folders, crash, monkeypatch):
    def build(network, name):
        raise crash

    monkeypatch.setitem(ENGINES, "flash", type(ENGINES["flash"])(None, build))
    model, (notice,) = loaded(folders("llama"))
    assert model.spec.engine == "lens"
    assert f"as the engine fails on it ({type(crash).__name__}" in notice
    assert "\n" not in notice
    refused, _ = loaded(folders("persimmon"))
    assert f"flash: the engine fails on it ({type(crash).__name__}" in refused
    assert "\n" not in refused


def test_what_is_wrong_with_the_numbers_is_no_choice_of_an_engine(folders, monkeypatch):
    def build(network, name):
        raise NotFinite(0, "logits are not finite", "the dtype overflows", name)

    monkeypatch.setitem(ENGINES, "flash", type(ENGINES["flash"])(None, build))
    refused, notices = loaded(folders("llama"))
    assert (refused, notices) == ("llama: logits are not finite; the dtype overflows", [])


@pytest.mark.parametrize("fault", [Unsupported("it is a test"), ih.UserError("a test"), KeyError()])
def test_a_damaged_weight_is_the_reason_for_whatever_fails(fault, tmp_path, monkeypatch):
    def build(network, name):
        raise fault

    monkeypatch.setitem(ENGINES, "flash", type(ENGINES["flash"])(None, build))
    network = tiny("llama")
    network.model.layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan
    refused, notices = loaded(save_folder(tmp_path / "mine", network))
    assert "model.layers.1.mlp.down_proj.weight" in refused
    assert notices == []


def test_a_model_that_does_not_run_has_its_files_to_check(tmp_path, monkeypatch):
    def build(network, name):
        raise ih.UserError(f"the architecture LlamaForCausalLM of {name!r} does not run; check it")

    for engine in ENGINES:
        monkeypatch.setitem(ENGINES, engine, type(ENGINES["flash"])(None, build))
    refused, _ = loaded(save_folder(tmp_path / "mine", tiny("llama")))
    assert "flash: it does not run; lens: it does not run; check its files" in refused


def test_a_device_map_leaves_no_choice(folders, only_lens):
    for engine in ("auto", "flash"):
        with pytest.raises(ih.UserError, match="no other engine takes a device_map") as error:
            ih.load_model(folders("gptj"), engine=engine, device_map="auto")
        assert "it is a test" in str(error.value)
        assert 'use engine="lens"' not in str(error.value)


def test_a_device_map_is_for_flash(folders):
    assert ih.load_model(folders("llama"), device_map="auto").spec.engine == "flash"


@pytest.mark.parametrize("family", ["llama", "gptj", "persimmon"])
def test_a_spec_loads_the_same_engine_again_without_a_word(folders, family):
    model, _ = loaded(folders(family))
    again = load(model.spec)
    assert again.provenance == model.provenance
    assert again.recipe == model.recipe
    assert ih.load_model(**model.recipe).provenance == model.provenance
    scores = [ih.score_heads(one, SAMPLES, progress=False) for one in (model, again)]
    np.testing.assert_array_equal(*scores)


def test_engines_that_there_are_not_are_refused_and_listed(folders):
    with (
        unchecked(),
        pytest.raises(ih.UserError, match="'Flash' is unknown; the engines are auto, flash, lens"),
    ):
        ih.load_model(folders("llama"), engine="Flash")


@pytest.mark.parametrize("engine", ["flash", "lens"])
def test_a_refusal_can_be_copied_to_another_process(engine):
    error = copy.deepcopy(Unsupported("it is a test", engine))
    assert (error.reason, error.engine) == ("it is a test", engine)
    assert str(error).startswith(f'it is a test: engine="{engine}" cannot show its heads; try')


def test_transformer_lens_is_imported_only_when_flash_cannot(folders):
    code = (
        "import sys, inactive_heads as ih; model = ih.load_model(sys.argv[1]); "
        "print(model.engine.name, *({'transformer_lens', 'plotly', 'pandas'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", code, str(folders("llama"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["flash"]
