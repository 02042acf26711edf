"""`inactive-heads models --check`: what it says of a model is what happens with it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
import torch
from helpers.layers_that_differ import MODELS
from helpers.models_on_disk import save_folder, word_tokenizer, write_gguf
from helpers.only_lens import refuse_flash
from helpers.tiny_families import tiny
from helpers.tiny_models import tiny_llama
from typer.testing import CliRunner

import inactive_heads as ih
from inactive_heads.cli.app import app
from inactive_heads.cli.model_check import check_model
from inactive_heads.models.choose_engine import ENGINES
from inactive_heads.scores.registry import REGISTRY
from inactive_heads.specs import ModelSpec

GPTJ = {"rotary_dim": 4, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64}
SMALL = {"num_key_value_heads": 2, "head_dim": 8}


def run(*arguments):
    return CliRunner().invoke(app, ["models", *(str(argument) for argument in arguments)])


def lines_of(result):
    """What was found, by what was tried; long lines are folded."""
    assert result.exit_code == 0, result.output
    found, last = {}, ""
    for line in result.stdout.splitlines():
        if match := re.match(r"(\S.*?)  +(\S.*)", line):
            last, found[match[1]] = match[1], match[2].rstrip()
        else:
            found[last] += " " + line.strip()
    return found


def test_the_bundled_model_can_do_everything():
    found = lines_of(run("--check"))
    model = ih.load_model()
    shape = model.shape
    assert found["model"] == "SmolLM2-135M-Instruct (LlamaForCausalLM)"
    assert found["engine"] == "flash; lens can, too"
    assert found["layers"] == "30 with attention heads, of 30"
    assert found["heads"] == "9 per layer (3 key/value heads), d_head 64"
    assert found["context"] == f"{shape.n_ctx} tokens"
    assert found["dtype"] == f"{model.provenance['dtype']} on {model.provenance['device']}"
    assert found["scores"] == "all 15"
    rest = ("RON, ROD", "zeroing, fixed", "zeroing, by v and z", "zeroing, by attention")
    assert {found[name] for name in (*rest, "prefix sharing")} == {"yes"}
    assert found["generation"] == "yes, with a cache"
    assert found["tokenizer"].endswith(f"{model.encode('The cat sat on the mat.')}")
    assert found["bos"] == "auto: a text has none before it"
    assert found["chat template"] == "off; --chat-template on works"


def test_a_model_that_only_lens_can_show_says_why_and_what_that_costs(tmp_path, monkeypatch):
    refuse_flash(monkeypatch)
    folder = save_folder(tmp_path / "mine", tiny("gptj", **GPTJ), tokenizer=None)
    result = run("--check", folder)
    found = lines_of(result)
    assert found["engine"] == "lens; not flash, as it is a test"
    assert found["scores"] == "all 15"
    assert found["zeroing, by v and z"] == "yes"
    assert found["zeroing, by attention"].startswith("no: 'mine' shows its attention pattern only")
    assert found["prefix sharing"] == "no: the engine lens runs every input whole"
    assert found["generation"] == "yes: every token runs the whole text"
    assert found["tokenizer"].startswith("none: give token ids, or --tokenizer")
    assert "is run by engine" not in result.stderr  # it is in the table


def test_a_model_that_only_flash_can_show(tmp_path):
    folder = save_folder(tmp_path / "mine", tiny("persimmon"), word_tokenizer(adds_bos=True))
    found = lines_of(run("--check", folder, "--dtype", "bfloat16"))
    assert found["engine"] == "flash; not lens, as TransformerLens has no bridge for it"
    assert found["dtype"] == "bfloat16 on cpu"
    assert found["bos"] == "auto: a text starts with <s>"
    assert found["chat template"] == "none"


ARCHITECTURE = """architecture = "llama"
n_layers = 2
n_heads = 4
n_key_value_heads = 1
d_model = 32
n_ctx = 40
d_vocab = 50
"""


def test_files_of_every_kind_are_checked(tmp_path):
    architecture = tmp_path / "own.toml"
    architecture.write_text(ARCHITECTURE)
    preset = tmp_path / "preset.toml"
    preset.write_text('model = "folder"\ndtype = "bfloat16"\n')
    save_folder(tmp_path / "folder")
    packed = write_gguf(tmp_path / "packed.gguf", tiny_llama())
    expected = {
        architecture: ("own (LlamaForCausalLM)", "float32 on cpu", "4 per layer (1 key"),
        preset: ("folder (LlamaForCausalLM)", "bfloat16 on cpu", "4 per layer (2 key"),
        packed: ("packed (LlamaForCausalLM)", "float32 on cpu", "4 per layer (2 key"),
        "gpt2-style-tiny": ("gpt2-style-tiny (GPT2LMHeadModel)", "float32 on cpu", "4 per layer,"),
    }
    for source, (name, dtype, heads) in expected.items():
        found = lines_of(run("--check", source))
        assert (found["model"], found["dtype"]) == (name, dtype)
        assert found["heads"].startswith(heads)
        assert found["scores"] == "all 15"


def test_layers_that_differ_are_told_apart(tmp_path):
    one = MODELS["gemma 4"]
    folder = save_folder(tmp_path / "mine", one.make(), tokenizer=None)
    found = lines_of(run("--check", folder))
    kinds = Counter(one.heads)
    for sizes, n_layers in kinds.items():
        assert f"{sizes.n_heads} per layer" in found["heads"]
        assert f"d_head {sizes.d_head}, in {n_layers} layers" in found["heads"]
    assert len(kinds) == 1 + found["heads"].count(";") > 1
    assert found["scores"] == "all 15"
    assert found["zeroing, fixed"] == found["zeroing, by v and z"] == "yes"


@pytest.mark.parametrize("sizes", [{"n_ctx": 2}, {"n_ctx": 1}, {"d_vocab": 5}, {"n_heads": 1}])
def test_the_smallest_models_are_checked(tmp_path, sizes):
    lines = dict(line.split(" = ") for line in ARCHITECTURE.splitlines()) | sizes
    file = tmp_path / "small.toml"
    file.write_text("\n".join(f"{key} = {value}" for key, value in lines.items()))
    found = lines_of(run("--check", file))
    assert found["zeroing, fixed"] == "yes"
    assert ("AEQD" in found["scores"]) == (sizes == {"n_ctx": 1})
    assert found["zeroing, by v and z"] == found["zeroing, by attention"] == "yes"
    full = sizes.get("n_ctx") in (1, 2)
    assert found["generation"].startswith("no: prompt 0 has 1 tokens" if full else "yes, with")


@pytest.mark.parametrize("option", ["--engine", "--dtype", "--device", "--bos", "--chat-template"])
def test_what_cannot_be_loaded_is_one_line_and_status_2(tmp_path, option):
    folder = save_folder(tmp_path / "tiny")
    for asked in ((folder, option, "odd"), (tmp_path / "nowhere",), (folder, folder)):
        result = run("--check", *asked)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""


def test_a_model_whose_heads_nobody_can_show_is_status_2(tmp_path):
    folder = save_folder(tmp_path / "mine", tiny("diffllama", **SMALL), tokenizer=None)
    result = run("--check", folder)
    assert result.exit_code == 2
    first, line = result.stderr.splitlines()
    assert first == f"Loading {folder} …"
    assert line.startswith("error: no engine can show the heads of the architecture Diff")
    assert "flash: it computes attention" in result.stderr
    assert "lens: TransformerLens has no bridge" in result.stderr


def test_options_of_a_model_are_for_its_check(tmp_path):
    result = run("--dtype", "bfloat16")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: options of a model need --check")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_score_that_fails_is_named_with_its_reason(tmp_path, engine, monkeypatch):
    def broken(heads):
        raise ih.UserError(f"no {engine} today")

    for name in ("AWFT", "AVVN"):
        monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], function=broken))
    folder = save_folder(tmp_path / "tiny")
    found = dict(check_model(ModelSpec(folder, engine=engine)))
    assert found["scores"] == f"13 of 15; not AWFT, AVVN: no {engine} today"
    assert found["zeroing, by attention"] == f"no: no {engine} today"
    assert (
        found["engine"] == {"flash": "flash; lens can, too", "lens": "lens, as asked for"}[engine]
    )


def test_a_model_is_not_changed_by_its_check(tmp_path, monkeypatch):
    """The last line tries TransformerLens on the network itself."""
    from inactive_heads.cli import model_check

    kept = []
    real = model_check.load
    monkeypatch.setattr(model_check, "load", lambda spec: kept.append(real(spec)) or kept[-1])
    check_model(ModelSpec(save_folder(tmp_path / "tiny")))
    batch = ih.TokenBatch.of([[5, 6, 7, 8]])
    assert torch.equal(
        kept[0].engine.run(batch), ih.load_model(tmp_path / "tiny").engine.run(batch)
    )


def test_what_is_printed_can_be_written_in_latin_1(tmp_path):
    result = run("--check", save_folder(tmp_path / "tiny"))
    assert result.stdout.encode("latin-1")
    assert max(map(len, result.stdout.splitlines())) <= 150
