"""Damaged configurations are refused in one line, before anything large is built from them."""

import contextlib

import pytest
from helpers.models_on_disk import edit_config, save_folder
from helpers.tiny_families import tiny

from inactive_heads.errors import UserError
from inactive_heads.models.load import load_model


def refused(folder, message):
    with pytest.raises(UserError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request, tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp(request.param), tiny(request.param))


@pytest.fixture
def edit(folder):
    """Changes config.json, for one test."""
    before = (folder / "config.json").read_text()
    yield lambda **changes: edit_config(folder, **changes)
    (folder / "config.json").write_text(before)


@pytest.mark.parametrize(
    "value", [[1.5], "LlamaForCausalLM", 5, {"a": 1}, [None], [["LlamaForCausalLM"]], True, 1.5]
)
def test_architectures_are_a_list_of_names(folder, edit, value):
    edit(architectures=value)
    refused(folder, "config.json cannot be read .*architectures is .* not a list of names")


@pytest.mark.parametrize("value", ["x", [], {}, 1.5, -1, [3], 10**9, 10**12, 10**30, float("nan")])
@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers"])
def test_sizes_that_are_none_are_refused(folder, edit, key, value):
    attributes = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer"}
    edit(**{key if "llama" in str(folder) else attributes.get(key, key): value})
    refused(folder, "config|cannot be loaded .*negative")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_hidden_layers", 10**9, "num_hidden_layers=1000000000, and the weight files store"),
        ("vocab_size", 10**12, "vocab_size=1000000000000, and the weight files store"),
        ("intermediate_size", 10**10, "intermediate_size=10000000000, and the weight files store"),
        ("hidden_size", 2**20, r"config.json describes \d+ weights, and the files store \d+"),
    ],
)
def test_a_network_far_larger_than_what_is_stored_is_not_built(tmp_path, key, value, message):
    folder = save_folder(tmp_path, tiny("llama"))
    edit_config(folder, **{key: value})
    refused(folder, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rms_norm_eps": -1.0}, "rms_norm_eps is -1.0, and an epsilon"),
        ({"layer_norm_epsilon": 1.5}, "layer_norm_epsilon is 1.5, and an epsilon"),
        ({"initializer_range": float("nan")}, "initializer_range is nan"),
        ({"rope_scaling": {"factor": float("inf")}}, r"rope_scaling\.factor is inf"),
    ],
)
def test_numbers_that_no_configuration_has_are_refused(folder, edit, changes, message):
    edit(**changes)
    refused(folder, message)


def test_unknown_keys_do_no_harm(folder, edit):
    edit(no_such_key={"a": [1, None]}, another="x")
    load_model(folder)


@pytest.mark.parametrize("text", ["{", "[]", "null", "\xff\xfe", "", '{"bos_token_id": "x"}'])
@pytest.mark.parametrize("file", ["generation_config.json", "tokenizer_config.json"])
def test_damaged_files_beside_it_are_refused_or_change_nothing(tmp_path, file, text):
    network = tiny("llama")
    folder = save_folder(tmp_path, network)
    (folder / file).write_bytes(text.encode("latin-1"))
    outcome = None
    with contextlib.suppress(UserError):
        outcome = load_model(folder).shape.d_model
    assert outcome in (None, network.config.hidden_size)
