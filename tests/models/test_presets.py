"""Presets: what they say is right, and what a user's own may say."""

import re
from dataclasses import asdict, replace
from typing import get_args

import pytest
import torch
from helpers.models_on_disk import save_folder
from helpers.preset_networks import PLAIN, built, plain_options
from typer.testing import CliRunner

import inactive_heads as ih
from inactive_heads.cli.app import app
from inactive_heads.cli.preset_table import BATCH_TOKENS, find_presets, hardware_for, memory_needed
from inactive_heads.errors import UserError
from inactive_heads.models.batching import tokens_at_once
from inactive_heads.models.devices import DTYPES
from inactive_heads.models.presets import parse_preset
from inactive_heads.names import Rule

PRESETS = find_presets()
PAPER = {
    *("Llama-3.2-3B", "Llama-3.2-3B-Instruct", "Llama-3.1-8B", "Llama-3.1-8B-Instruct"),
    *(f"OLMo-2-1124-7B{form}" for form in ("", "-SFT", "-DPO", "-Instruct")),
    *(f"Qwen2.5-{size}" for size in ("0.5B", "1.5B", "3B", "7B", "7B-Instruct", "14B")),
}
GATED = ("meta-llama/", "google/gemma-3-", "mistralai/Mistral-7B-", "mistralai/Mixtral-")
WIDER = ("qwen3", "gemma3_text")
"""Architectures whose heads together may be wider than the residual stream."""
GB = 10**9


def test_the_paper_s_fourteen_models_are_presets_under_its_names():
    of_paper = {name: preset for name, preset in PRESETS.items() if preset.paper}
    as_run = {name for name in of_paper if name.endswith("-paper")}
    assert {of_paper[name].name for name in set(of_paper) - as_run} == PAPER
    assert {of_paper[name].name for name in as_run} == {f"{name} (paper)" for name in PAPER}


@pytest.mark.parametrize("name", sorted(name for name in PRESETS if name.endswith("-paper")))
def test_a_model_as_the_paper_ran_it_differs_in_bos_alone(name):
    as_run, plain = PRESETS[name], PRESETS[name.removesuffix("-paper")]
    assert as_run == replace(plain, name=f"{plain.name} (paper)", bos="off")
    assert plain.bos == "auto"


def test_what_people_use_today_is_there():
    families = {name.split("-")[0] for name in PRESETS}
    assert families >= {"gpt2", "pythia", "smollm2", "qwen3", "gemma", "mistral", "phi"}
    assert families >= {"qwen3.5", "llama", "gpt", "olmo", "smollm3", "granite", "ministral"}
    assert families >= {"lfm2", "deepseek", "falcon3", "mixtral"}
    assert {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_can_be_loaded(name):
    preset = PRESETS[name]
    assert re.fullmatch(r"([\w.-]+/)?[\w.-]+", preset.model)
    assert preset.dtype in ("auto", *DTYPES)
    assert preset.bos in get_args(Rule)
    if name.startswith("gpt2"):
        assert preset.model == name, "the hub's own name must not mean another model"
    else:
        assert name.split("-")[0] in preset.model.lower()
    last = preset.model.split("/")[-1].lower()
    finetuned = last.endswith(("-instruct", "-it", "-sft", "-dpo", "-chat"))
    finetuned = finetuned or "-instruct-" in last or last.startswith("lfm2-") or last == "phi-4"
    has_base = last.startswith(("qwen3-", "qwen3.5-", "smollm3-", "granite-4.0-"))
    assert preset.chat_template == (finetuned or (has_base and not last.endswith("-base")))
    thinks = last.startswith(("qwen3-", "qwen3.5-", "smollm3-")) and "-next-" not in last
    asked = preset.chat_template_args.get("enable_thinking")
    assert asked == (False if thinks and preset.chat_template else None)
    assert preset.gated == preset.model.startswith(GATED)


def n_parameters(sizes, n_layers, tied):
    """Of a model of these sizes with so many layers, on a device that holds no numbers."""
    options = plain_options(replace(sizes, n_layers=n_layers), tied=tied)
    with torch.device("meta"):
        network = built(sizes.architecture, options)
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    "sizes", {preset.sizes for preset in PRESETS.values() if preset.sizes.architecture in PLAIN}
)
def test_sizes_make_that_many_parameters(sizes):
    assert sizes.n_heads * sizes.d_head == sizes.d_model or sizes.architecture in WIDER
    counted = []
    for tied in (True, False):
        one, two = (n_parameters(sizes, n_layers, tied) for n_layers in (1, 2))
        counted.append(one + (two - one) * (sizes.n_layers - 1))
    assert sizes.parameters in [float(f"{number:.3g}") for number in counted]


def test_memory_is_weights_and_a_batch():
    sizes = PRESETS["llama-3.1-8b"].sizes
    need = memory_needed(sizes, torch.bfloat16)
    assert need.weights == 16_060_000_000
    assert need.batch > BATCH_TOKENS * sizes.shape.bytes_per_token(2)
    assert hardware_for(need) == "24 GB GPU"
    assert hardware_for(memory_needed(sizes, torch.float32)) == "40 GB GPU"
    assert hardware_for(memory_needed(PRESETS["pythia-70m"].sizes, torch.float32)) == "any laptop"
    huge = replace(sizes, parameters=70 * GB)
    assert hardware_for(memory_needed(huge, torch.bfloat16)).startswith("several GPUs")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_models_lists_every_preset_with_what_it_needs(tmp_path):
    shown = run("models").output
    for name, preset in PRESETS.items():
        (line,) = [one for one in shown.splitlines() if f" {name} " in one]
        assert ("★" in line) == preset.paper
        assert preset.model[:20] in line
    (line,) = [one for one in shown.splitlines() if " llama-3.1-8b-instruct " in one]
    for part in ("32 × 32 (8 kv)", "8.03B", "bfloat16", "yes", "18.6 GB", "24 GB GPU"):
        assert part in line
    mine = tmp_path / "mine.toml"
    mine.write_text('model = "some/model"\ndtype = "float16"')
    (line,) = [one for one in run("models", mine).output.splitlines() if " mine " in one]
    assert "some/model" in line
    assert "float16" in line
    mine.write_text('architecture = "gpt2"')
    refused = run("models", mine)
    assert refused.exit_code == 2


def test_a_batch_size_of_a_preset_is_taken_where_none_is_asked_for(tmp_path):
    save_folder(tmp_path / "weights")
    preset = tmp_path / "mine.toml"
    preset.write_text('model = "weights"\nbatch_size = 3')
    model = ih.load_model(preset)
    assert tokens_at_once(model, 20, "auto") == 60
    assert tokens_at_once(model, 20, 2) == 40
    ran = []
    engine_run = model.engine.run
    model.engine.run = lambda batch, *rest: (ran.append(len(batch.rows)), engine_run(batch, *rest))[
        1
    ]
    ih.score_heads(model, [[1, 2]] * 7)
    assert ran == [3, 3, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"n_layers": 2}, "n_layers = 2 is not a key beside model; the keys are model, name"),
        ({"chat_template": "yes"}, "chat_template = 'yes'; give true or false"),
        ({"gated": 1}, "gated = 1; give true or false"),
        ({"chat_template_args": 3}, "chat_template_args = 3; give a table"),
        ({"batch_size": 0}, "batch_size = 0; give a whole number above 0"),
        ({"batch_size": True}, "batch_size = True; give a whole number above 0"),
        ({"dtype": 16}, "dtype = 16; give a text in quotes"),
        ({"sizes": {"n_layers": 2}}, r"\[sizes\] needs architecture, .*; architecture is not as"),
        ({"sizes": 3}, "sizes = 3; give a table"),
    ],
)
def test_a_preset_with_a_wrong_key_is_refused(table, message):
    with pytest.raises(UserError, match=f"mine.toml: {message}"):
        parse_preset({"model": "some/model"} | table, "mine.toml")


def test_sizes_are_numbers_above_0():
    sizes = asdict(PRESETS["gpt2"].sizes)
    assert parse_preset({"model": "m", "sizes": sizes}, "f").sizes == PRESETS["gpt2"].sizes
    for wrong in (0, -1, "12", True):
        with pytest.raises(UserError, match="f: n_heads = .*; give a number above 0"):
            parse_preset({"model": "m", "sizes": sizes | {"n_heads": wrong}}, "f")


def test_a_preset_may_be_based_on_another(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('base = "qwen3-0.6b"\ndtype = "float32"\nchat_template_args = {}')
    found = find_presets([str(mine)])["mine"]
    assert found == replace(PRESETS["qwen3-0.6b"], dtype="float32", chat_template_args={})
    mine.write_text('base = "llama-3.1-8b-paper"\nbos = "auto"')
    found = find_presets([str(mine)])["mine"]
    assert found == replace(PRESETS["llama-3.1-8b"], name="Llama-3.1-8B (paper)")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            '"qwen3-0.6"',
            "base = 'qwen3-0.6' is no preset of the package; did you mean 'qwen3-0.6b'",
        ),
        ('"mine"', "base = 'mine' is no preset of the package"),
        ('"gpt2-style-tiny"', "base = 'gpt2-style-tiny' describes random weights"),
        ("3", "base = 3; give a text in quotes"),
    ],
)
def test_a_base_that_is_no_preset_of_a_stored_model_is_refused(base, message, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(f"base = {base}")
    with pytest.raises(UserError, match=f"mine.toml: {message}"):
        find_presets([str(mine)])
    with pytest.raises(UserError, match=f"mine.toml: {message}"):
        ih.load_model(mine)
