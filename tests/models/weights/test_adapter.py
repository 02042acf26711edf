"""Adapters are merged into their base; the reference is the model that PEFT itself makes."""

import copy
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.models_on_disk import put_in_hub_cache, save_folder, word_tokenizer
from helpers.stored import add_tensors, rewrite
from helpers.tiny_models import tiny_gpt2, tiny_llama
from huggingface_hub import constants

import inactive_heads as ih
from inactive_heads.errors import UserError
from inactive_heads.models.load import load, load_model

peft = pytest.importorskip("peft", reason="peft is not installed")

IDS = [5, 6, 7, 8, 9, 20, 30]
LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
WEIGHTS = "adapter_model.safetensors"


def make(tmp_path, config, network=None, name="adapter", base=None):
    """A base folder, an adapter folder, and the logits of PEFT's model of both."""
    network = tiny_llama() if network is None else network
    base = save_folder(tmp_path / "base", network) if base is None else base
    network = copy.deepcopy(network)
    network.name_or_path = str(base)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT; the package's own calls are quiet
        torch.manual_seed(1)
        adapted = peft.get_peft_model(network, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
        adapted.save_pretrained(tmp_path / name)
    with torch.no_grad():
        return tmp_path / name, adapted.eval()(torch.tensor([IDS])).logits[0, -1].double().numpy()


def logits(folder, **options):
    model = load_model(folder, **{"dtype": "float32"} | options)
    return np.asarray(ih.ablate(model, [IDS], None).logits[0], dtype=np.float64)


def lora(**options):
    return peft.LoraConfig(**LORA | {"task_type": "CAUSAL_LM"} | options)


def kinds():
    yield "lora", lora()
    yield "dora", lora(use_dora=True)
    yield "rslora", lora(use_rslora=True, rank_pattern={"q_proj": 3})
    yield "modules to save", lora(modules_to_save=["lm_head", "norm"])
    yield "embeddings", lora(target_modules=["q_proj", "embed_tokens"])
    yield "tokens", lora(trainable_token_indices=[5, 30])
    scaled = ["k_proj", "down_proj"]
    yield "ia3", peft.IA3Config(target_modules=scaled, feedforward_modules=scaled[1:])
    yield "loha", peft.LoHaConfig(r=2, target_modules=["q_proj"])


@pytest.mark.parametrize("config", [pytest.param(made, id=name) for name, made in kinds()])
def test_an_adapter_gives_what_peft_gives(tmp_path, config):
    folder, expected = make(tmp_path, config)
    assert_close(logits(folder), expected, rtol=1e-4)
    plain = logits(tmp_path / "base")
    assert np.abs(plain - expected).max() > 0.1  # it does something


@pytest.mark.parametrize(
    "options", [{"engine": "lens"}, {"dtype": "float64"}, {"device_map": "cpu"}]
)
def test_however_it_is_loaded(tmp_path, options):
    folder, expected = make(tmp_path, lora())
    assert_close(logits(folder, **options), expected, rtol=1e-4)


def test_gpt2s_transposed_matrices(tmp_path):
    config = lora(target_modules=["c_attn"], fan_in_fan_out=True, bias="lora_only")
    folder, expected = make(tmp_path, config, tiny_gpt2())
    assert_close(logits(folder), expected, rtol=1e-4)


def test_results_say_what_was_merged_and_another_process_loads_the_same(tmp_path):
    folder, expected = make(tmp_path, lora())
    model = load_model(folder, dtype="float32")
    assert model.name == "adapter"
    assert model.provenance["adapter"] == "LORA adapter merged into base"
    assert load_model(tmp_path / "base").provenance["adapter"] == ""
    assert model.encode("the cat") == [3, 4]  # the base's tokenizer
    code = (
        "import inactive_heads as ih, sys; m = ih.load_model(sys.argv[1], dtype='float32'); "
        f"print(ih.ablate(m, [{IDS}], None).logits[0].tolist())"
    )
    other = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(model.spec.source)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert_close(np.array(json.loads(other.stdout)), expected, rtol=1e-4)
    assert load(model.spec).provenance == model.provenance


def test_a_tokenizer_beside_the_adapter_comes_first(tmp_path):
    folder, _ = make(tmp_path, lora())
    word_tokenizer(words=["<s>", "</s>", "<unk>", "cat", "the"]).save_pretrained(folder)
    assert load_model(folder).encode("the cat") == [4, 3]


def test_a_base_is_found_beside_the_adapter_and_on_the_hub(tmp_path, monkeypatch):
    folder, expected = make(tmp_path, lora())
    settings = json.loads((folder / "adapter_config.json").read_text())

    def name_base(name):
        text = json.dumps(settings | {"base_model_name_or_path": name})
        (folder / "adapter_config.json").write_text(text)

    name_base("../base")
    assert_close(logits(folder), expected, rtol=1e-4)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = put_in_hub_cache(tmp_path / "hub", "some/base")
    name_base("some/base")
    model = load_model(folder, dtype="float32")
    assert model.provenance["adapter"] == f"LORA adapter merged into some/base at {commit}"
    assert_close(np.asarray(ih.ablate(model, [IDS], None).logits[0]), expected, rtol=1e-4)
    assert load(model.spec).provenance == model.provenance
    for name, message in (
        ("no/such-base", "the base of the adapter 'adapter': 'no/such-base' is no local"),
        (None, "names no base"),
        ("", "names no base"),
        (5, "names no base"),
        (".", "names itself as its base"),
    ):
        name_base(name)
        with pytest.raises(UserError, match=message) as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)


def test_an_adapter_in_the_folder_of_its_base_is_merged(tmp_path):
    base = save_folder(tmp_path / "both")
    folder, expected = make(tmp_path, lora(), name="both", base=base)
    assert folder == base
    assert_close(logits(folder), expected, rtol=1e-4)


def test_a_model_beside_an_adapter_of_another_base_may_be_merged_already(tmp_path):
    folder, _ = make(tmp_path, lora())
    tiny_llama().save_pretrained(folder)
    with pytest.raises(UserError, match="which the model may already contain: move the adapter_"):
        load_model(folder)


def test_without_peft_it_says_what_to_install(tmp_path, monkeypatch):
    folder, _ = make(tmp_path, lora())
    found = ih.models.weights.adapter.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "peft" else found(name, *a)
    )
    with pytest.raises(UserError, match=r"is an adapter \(LORA\) of 'base': `pip install peft`"):
        load_model(folder)


def unmergeable():
    yield "prompt", peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), None
    yield "prefix", peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), None
    yield "alora", lora(alora_invocation_tokens=[50, 51]), None
    tied = lora(target_modules=["c_attn", "lm_head"], fan_in_fan_out=True)
    yield "tied", tied, tiny_gpt2


@pytest.mark.parametrize(
    ("config", "network"), [pytest.param(c, n, id=name) for name, c, n in unmergeable()]
)
def test_what_cannot_be_merged_is_refused(tmp_path, config, network):
    folder, _ = make(tmp_path, config, network and network())
    with pytest.raises(UserError, match="cannot be merged") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


A = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"


def lose(folder):
    rewrite(folder, lambda tensors: tensors.pop(A), WEIGHTS)


def add(folder):
    add_tensors(folder, {A.replace("layers.1", "layers.7"): torch.ones(2, 32)}, WEIGHTS)


def narrow(folder):
    add_tensors(folder, {A: torch.ones(2, 16)}, WEIGHTS)


def spoil(folder):
    rewrite(folder, lambda tensors: tensors[A].fill_(torch.nan), WEIGHTS)


def cut(folder):
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-10])


def pickle(folder):
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def garble(folder):
    (folder / "adapter_config.json").write_text('["LORA"]')


def rename(folder):
    file = folder / "adapter_config.json"
    file.write_text(file.read_text().replace('"LORA"', '"NO_SUCH"'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose, "1 tensors are missing for it.*layers.1.self_attn.q_proj.lora_A"),
        (add, r"1 tensors are not used by it.*layers\.7\.self_attn"),
        (narrow, r"cannot be merged \(RuntimeError.*size mismatch"),
        (spoil, r"layers\.1\.self_attn\.q_proj\.lora_A\.weight \(layer 1\) has 64 values .* nan"),
        (cut, "cannot be read"),
        (pickle, "pickle files are refused"),
        (garble, r"adapter_config\.json cannot be read \(TypeError"),
        (rename, "NO_SUCH"),
    ],
)
def test_a_damaged_adapter_is_refused(tmp_path, damage, message):
    folder, _ = make(tmp_path, lora())
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_model(folder, dtype="float32")
    assert "\n" not in str(caught.value)
