"""Presets: what they say is right, and what a user's own may say."""

import re
from dataclasses import asdict, replace
from typing import get_args

import pytest
import torch
from helpers.models_on_disk import save_folder
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import CliRunner

import inactive_heads as ih
from inactive_heads.cli.app import app
from inactive_heads.cli.preset_table import BATCH_TOKENS, find_presets, hardware_for, memory_needed
from inactive_heads.errors import UserError
from inactive_heads.models.batching import tokens_at_once
from inactive_heads.models.devices import DTYPES
from inactive_heads.models.model import Rule
from inactive_heads.models.presets import parse_preset

PRESETS = find_presets()
PAPER = {
    *("Llama-3.2-3B", "Llama-3.2-3B-Instruct", "Llama-3.1-8B", "Llama-3.1-8B-Instruct"),
    *(f"OLMo-2-1124-7B{form}" for form in ("", "-SFT", "-DPO", "-Instruct")),
    *(f"Qwen2.5-{size}" for size in ("0.5B", "1.5B", "3B", "7B", "7B-Instruct", "14B")),
}
GB = 10**9


def test_the_paper_s_fourteen_models_are_presets_under_its_names():
    assert {preset.name for preset in PRESETS.values() if preset.paper} == PAPER


def test_what_people_use_today_is_there():
    families = {name.split("-")[0] for name in PRESETS}
    assert families >= {"gpt2", "pythia", "smollm2", "qwen3", "gemma", "mistral", "phi"}
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
    finetuned = last.endswith(("-instruct", "-it", "-sft", "-dpo")) or "-instruct-" in last
    always_chat = (last.startswith("qwen3-") and not last.endswith("-base")) or last == "phi-4"
    assert preset.chat_template == (finetuned or always_chat)
    owner = preset.model.split("/")[0]
    assert preset.gated == (owner in ("meta-llama", "google", "mistralai"))


def n_parameters(sizes, n_layers, tied):
    """Of a model of these sizes with so many layers, on a device that holds no numbers."""
    names = {
        "vocab_size": sizes.d_vocab,
        "hidden_size": sizes.d_model,
        "intermediate_size": sizes.d_mlp,
        "num_hidden_layers": n_layers,
        "num_attention_heads": sizes.n_heads,
        "num_key_value_heads": sizes.n_key_value_heads,
        "head_dim": sizes.d_head,
        "max_position_embeddings": sizes.n_ctx,
        "tie_word_embeddings": tied,
        "pad_token_id": 0,
    }
    if sizes.architecture == "gpt2":
        names = {
            "vocab_size": sizes.d_vocab,
            "n_embd": sizes.d_model,
            "n_inner": sizes.d_mlp,
            "n_layer": n_layers,
            "n_head": sizes.n_heads,
            "n_positions": sizes.n_ctx,
        }
    if sizes.architecture == "gpt_neox":
        del names["num_key_value_heads"], names["head_dim"]
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(sizes.architecture, **names)
        )
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("model", sorted({preset.model for preset in PRESETS.values()}))
def test_sizes_make_that_many_parameters(model):
    sizes = next(preset.sizes for preset in PRESETS.values() if preset.model == model)
    heads = sizes.n_heads * sizes.d_head
    assert heads == sizes.d_model or sizes.architecture in ("qwen3", "gemma3_text")
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
