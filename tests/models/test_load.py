import json
import logging
import socket
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import transformers
from helpers.closeness import assert_close
from helpers.models_on_disk import save_folder, word_tokenizer
from helpers.tiny_models import SAMPLES, tiny_llama
from helpers.unchecked import unchecked
from transformer_lens.model_bridge import TransformerBridge
from transformers.utils import logging as transformers_logging

from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.lens import bridge_of
from inactive_heads.errors import UserError
from inactive_heads.models import devices
from inactive_heads.models.choose_engine import ENGINES
from inactive_heads.models.devices import devices_of
from inactive_heads.models.load import as_model, load_model
from inactive_heads.models.model import Model
from inactive_heads.scores.score_heads import score_heads

TOKENS = [3, 4, 5, 6, 7]


def logits_of(network, tokens=TOKENS):
    with torch.no_grad():
        return network(torch.tensor([tokens])).logits[0, -1:]


def test_a_loaded_model_computes_what_the_saved_one_does(network, tmp_path):
    model = load_model(save_folder(tmp_path / "small", network))
    batch = TokenBatch.of([TOKENS])
    assert_close(model.engine.run(batch), logits_of(network), rtol=1e-5)
    assert model.shape.n_layers == 3
    assert model.shape.n_heads == 4
    parameters = list(model.engine.network.parameters())
    assert not any(p.requires_grad for p in parameters)
    assert not model.engine.network.training


def test_provenance_is_flat_and_says_where_the_model_is_from(tmp_path):
    folder = save_folder(tmp_path / "small")
    model = load_model(str(folder), device="cpu", bos="off")
    assert model.provenance == {
        "model": "small",
        "source": str(folder),
        "revision": "",
        "architecture": "LlamaForCausalLM",
        "dtype": "float32",
        "device": "cpu",
        "weight_processing": "none: raw Hugging Face weights",
        "unpacked_from": "",
        "adapter": "",
        "tokenizer": "",
        "bos": "off",
        "chat_template": "off",
        "engine": "flash",
    }
    assert json.loads(json.dumps(model.provenance)) == model.provenance
    assert model.name == "small"
    assert repr(model) == "Model('small': 3 layers of 4 heads, float32 on cpu, engine 'flash')"


@pytest.mark.parametrize(
    ("adds_bos", "bos", "expected"),
    [
        (False, "auto", [3, 4]),
        (True, "auto", [0, 3, 4]),
        (False, "on", [0, 3, 4]),
        (True, "on", [0, 3, 4]),
        (False, "off", [3, 4]),
        (True, "off", [3, 4]),
    ],
)
def test_the_bos_rule_decides_on_the_first_token(tmp_path, adds_bos, bos, expected):
    folder = save_folder(tmp_path, tokenizer=word_tokenizer(adds_bos=adds_bos))
    assert load_model(folder, bos=bos).encode("the cat") == expected


def test_bos_on_needs_a_tokenizer_with_bos(tmp_path):
    folder = save_folder(tmp_path / "small", tokenizer=word_tokenizer(bos=None))
    assert load_model(folder).encode("the cat") == [3, 4]
    with pytest.raises(UserError, match="'small' has no BOS token"):
        load_model(folder, bos="on")


def test_texts_are_never_cut(tmp_path, caplog):
    tokenizer = word_tokenizer(cut_at=2)
    tokenizer.model_max_length = 4
    model = load_model(save_folder(tmp_path, tokenizer=tokenizer))
    assert len(model.encode("the cat sat on a mat " * 30)) == 180
    assert not caplog.records


def test_a_model_without_tokenizer_loads_and_refuses_text(tmp_path):
    model = load_model(save_folder(tmp_path / "bare", tokenizer=None))
    assert model.tokenizer is None
    with pytest.raises(UserError, match=r"'bare' has no tokenizer.*tokenizer=.*token ids"):
        model.encode("the cat")


def test_a_tokenizer_can_be_given(tmp_path):
    folder = save_folder(tmp_path / "bare", tokenizer=None)
    word_tokenizer(adds_bos=True).save_pretrained(tmp_path / "words")
    model = load_model(folder, tokenizer=tmp_path / "words")
    assert model.encode("the cat") == [0, 3, 4]
    assert model.provenance["tokenizer"] == str(tmp_path / "words")
    with pytest.raises(UserError, match="has no tokenizer files"):
        load_model(folder, tokenizer=folder)


def test_a_tokenizer_with_tokens_the_model_lacks_is_refused_when_they_occur(tmp_path):
    words = ["<s>", "</s>", "<unk>", *[f"w{i}" for i in range(200)]]
    model = load_model(save_folder(tmp_path / "small", tokenizer=word_tokenizer(words=words)))
    assert model.encode("w0 w93") == [3, 96]
    with pytest.raises(UserError, match=r"token 97, and the vocabulary of 'small' has 97"):
        model.encode("w0 w94")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"engine": "warp"}, r"engine='warp' is unknown; the engines are .*lens"),
        ({"dtype": "float12"}, r"dtype='float12' is unknown; give 'auto' or one of bfloat16"),
        ({"dtype": "int8"}, r"dtype='int8' is unknown"),
        ({"device": "tpu"}, r"device='tpu' is unknown; give 'auto', 'cpu', 'cuda' or 'cuda:N'"),
        ({"device": "cuda:x"}, r"device='cuda:x' is unknown"),
        ({"device": "cuda:99"}, r"device='cuda:99' is not available.*give 'cpu'"),
        ({"bos": "yes"}, r"bos='yes' is unknown; give one of auto, on, off"),
        ({"revision": "v2"}, r"revision='v2' has no meaning for .* which is local"),
    ],
)
def test_an_option_with_no_such_value_is_refused(tmp_path, option, message):
    with unchecked(), pytest.raises(UserError, match=message) as caught:
        load_model(save_folder(tmp_path), **option)
    assert "\n" not in str(caught.value)


def test_a_dtype_can_be_asked_for(tmp_path):
    model = load_model(save_folder(tmp_path), dtype="bfloat16")
    assert model.engine.dtype == torch.bfloat16
    assert model.provenance["dtype"] == "bfloat16"


@pytest.mark.parametrize("matrix_units", [True, False])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_the_automatic_dtype_keeps_float32_and_widens_16_bits_where_they_are_slow(
    tmp_path, monkeypatch, stored, matrix_units
):
    monkeypatch.setattr(devices, "cpu_multiplies_bfloat16", lambda: matrix_units)
    folder = save_folder(tmp_path, tiny_llama().to(stored))
    narrow = stored != torch.float32 and matrix_units
    assert load_model(folder, device="cpu").engine.dtype == (
        torch.bfloat16 if narrow else torch.float32
    )


@pytest.mark.parametrize("native", [True, False])
def test_the_automatic_dtype_on_cuda(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    cuda = torch.device("cuda:0")
    assert devices.choose_dtype("auto", cuda, narrow=False) == torch.float32
    expected = torch.bfloat16 if native else torch.float16
    assert devices.choose_dtype("auto", cuda, narrow=True) == expected


def test_another_engine_is_one_entry(tmp_path, monkeypatch):
    seen = []
    kind = ENGINES["lens"]

    def build(network, name):
        seen.append((network.config._attn_implementation, name))
        return kind.build(network, name)

    monkeypatch.setitem(ENGINES, "flash", type(kind)("sdpa", build))
    load_model(save_folder(tmp_path / "small"), engine="flash")
    assert seen == [("sdpa", "small")]


@pytest.mark.parametrize("level", [logging.INFO, logging.CRITICAL])
def test_loading_is_quiet_and_leaves_settings_and_generators_alone(tmp_path, capfd, level):
    folder = save_folder(tmp_path)
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    capfd.readouterr()
    transformers_logging.set_verbosity(level)
    transformers_logging.disable_progress_bar()
    state = torch.random.get_rng_state()
    try:
        load_model(folder)
        load_model("llama-style-tiny", tokenizer=folder)
        assert transformers_logging.get_verbosity() == level
        assert not transformers_logging.is_progress_bar_enabled()
        transformers_logging.enable_progress_bar()
        load_model(folder)
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity(before[0])
        if not before[1]:
            transformers_logging.disable_progress_bar()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")


def test_local_models_never_touch_the_network(tmp_path, monkeypatch):
    import huggingface_hub.constants

    calls = []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: calls.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: calls.append(address) or [])
    load_model(save_folder(tmp_path / "small")).encode("the cat")
    load_model(save_folder(tmp_path / "bare", tokenizer=None))
    assert calls == []


def test_as_model_leaves_a_model_as_it_is(tmp_path):
    model = load_model(save_folder(tmp_path))
    assert as_model(model) is model


def test_as_model_wraps_a_bridge_as_it_is(network):
    bridge = bridge_of(network, "mine")
    model = as_model(bridge)
    assert isinstance(model, Model)
    assert model.engine.bridge is bridge
    assert model.tokenizer is None
    assert model.provenance["model"] == "mine"
    assert model.provenance["architecture"] == type(network).__name__
    assert model.provenance["source"] == "a TransformerBridge given by the caller"
    assert model.provenance["weight_processing"] == "none: raw Hugging Face weights"
    assert json.loads(json.dumps(model.provenance)) == model.provenance
    assert_close(model.engine.run(TokenBatch.of([TOKENS])), logits_of(network), rtol=1e-5)
    with pytest.raises(UserError, match="'mine' has no tokenizer"):
        model.encode("the cat")


@pytest.mark.parametrize("prepend", [True, False])
def test_a_bridge_encodes_with_its_own_rule_and_never_cuts(prepend):
    bridge = bridge_of(tiny_llama(), "mine")
    bridge.tokenizer = word_tokenizer()
    bridge.tokenizer.pad_token = "</s>"
    bridge.cfg.default_prepend_bos = prepend
    bridge.cfg.tokenizer_prepends_bos = False
    model = as_model(bridge)
    assert model.encode("the cat") == ([0, 3, 4] if prepend else [3, 4])
    assert len(model.encode("the " * 100)) == 100 + prepend  # the context has 64
    assert model.provenance["bos"] == f"to_tokens (default_prepend_bos={prepend})"


def test_as_model_records_compatibility_mode():
    bridge = bridge_of(tiny_llama(), "mine")
    bridge.compatibility_mode = True
    assert "compatibility mode" in as_model(bridge).provenance["weight_processing"]


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
def test_as_model_wraps_a_hooked_transformer():
    try:
        from transformer_lens import HookedTransformer, HookedTransformerConfig
    except ImportError:
        pytest.skip("this version of TransformerLens has no HookedTransformer")
    cfg = HookedTransformerConfig(
        n_layers=2, d_model=16, n_ctx=8, d_head=8, n_heads=2, d_vocab=20, act_fn="gelu", seed=0
    )
    model = as_model(HookedTransformer(cfg))
    assert model.provenance["weight_processing"] == (
        "as in the HookedTransformer given (folding moves v and z)"
    )
    assert model.shape.n_heads == 2
    assert model.engine.run(TokenBatch.of([[1, 2, 3]])).shape == (1, 20)


@pytest.mark.parametrize("thing", ["gpt2", None, 3, torch.nn.Linear(2, 2)])
def test_as_model_refuses_anything_else(thing):
    with pytest.raises(UserError, match=f"a {type(thing).__name__} is not a model.*load_model"):
        as_model(thing)


def test_the_bundled_model_reads_and_writes_english(demo_model):
    assert demo_model.name == "SmolLM2-135M-Instruct"
    assert demo_model.provenance["source"] == "bundled demo model"
    shape = demo_model.shape
    assert (shape.n_layers, shape.n_heads, shape.n_key_value_heads) == (30, 9, 3)
    tokens = demo_model.encode("The capital of France is")
    assert tokens == [504, 3575, 282, 4649, 314]
    best = int(demo_model.engine.run(TokenBatch.of([tokens])).argmax())
    assert demo_model.tokenizer.decode([best]) == " Paris"
    assert isinstance(demo_model.engine.bridge, TransformerBridge)
    assert isinstance(demo_model.tokenizer, transformers.PreTrainedTokenizerBase)


def test_device_map_reaches_transformers_and_changes_no_score(tmp_path, monkeypatch):
    folder, given = save_folder(tmp_path / "tiny"), []
    reader = transformers.AutoModelForCausalLM.from_pretrained

    def spying(*args, **options):
        given.append(options["device_map"])
        return reader(*args, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", spying)
    plain, spread = load_model(folder), load_model(folder, device_map="auto")
    assert given == [None, "auto"]
    assert spread.provenance["device"] == "cpu"
    np.testing.assert_array_equal(*(score_heads(model, SAMPLES) for model in (plain, spread)))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"embed": 0, "layers.0": 0, "layers.1": 1}, "cuda:0, cuda:1"),
        ({"": "cpu"}, "cpu"),
        ({"layers.0": 0, "layers.1": "cpu"}, "on cpu; give a smaller dtype or more GPUs"),
        ({"layers.0": "cpu", "layers.1": "disk"}, "on disk; give a smaller dtype"),
    ],
)
def test_a_model_must_lie_where_it_runs(places, expected):
    network = tiny_llama()
    network.hf_device_map = places
    if "give" not in expected:
        assert devices_of(network, "tiny") == expected
        return
    with pytest.raises(UserError, match=expected):
        devices_of(network, "tiny")


def test_device_map_is_for_the_flash_engine_and_stored_weights(tmp_path):
    folder = save_folder(tmp_path / "tiny")
    with pytest.raises(UserError, match=r"device_map='auto' needs engine=.flash., not 'lens'"):
        load_model(folder, device_map="auto", engine="lens")
    with pytest.raises(UserError, match=r"device_map='auto' spreads stored weights"):
        load_model("gpt2-style-tiny", device_map="auto")


def test_dtypes_and_devices_of_torch_are_taken():
    model = load_model("llama-style-tiny", dtype=torch.bfloat16, device=torch.device("cpu"))
    assert (model.provenance["dtype"], model.provenance["device"]) == ("bfloat16", "cpu")
    assert (model.spec.dtype, model.spec.device) == ("bfloat16", "cpu")
