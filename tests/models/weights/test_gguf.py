"""What a .gguf file stores is used, or refused by name."""

import gguf
import numpy as np
import pytest
import torch
from helpers.gguf_files import tiny_network, write_gguf

import inactive_heads as ih
from inactive_heads.errors import UserError
from inactive_heads.models.weights.checkpoint import Checkpoint
from inactive_heads.models.weights.gguf.load import GgufFile

IDS = list(range(5, 23))


@pytest.fixture(scope="module")
def llama():
    return tiny_network("llama", head_dim=8)


def logits(path):
    return ih.ablate(ih.load_model(path), [IDS], None).logits[0]


def refused(path, message):
    with pytest.raises(UserError, match=message) as caught:
        ih.load_model(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def _all_keys():
    groups = (gguf.Keys.LLM, gguf.Keys.Attention, gguf.Keys.Rope, gguf.Keys.SSM)
    for group in groups:
        for name, key in vars(group).items():
            if isinstance(key, str) and key.startswith("{arch}.") and "{dense}" not in key:
                yield name, key.removeprefix("{arch}.")


WRITTEN = ("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size")
HARMLESS = {
    "tensor_data_layout",  # of old converters; the tensors are laid out alike
    "rope.scaling.finetuned",  # a note about the training
    "rope.scaling.original_context_length",  # without a scaling that uses it
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_attn_factor",
}


@pytest.mark.parametrize(("name", "key"), list(_all_keys()))
def test_no_setting_that_llama_cpp_knows_is_dropped(name, key, llama, tmp_path):
    """Each is refused by name with an odd value, changes the model, or is known not to matter."""
    path = write_gguf(tmp_path / "m.gguf", llama, keys={key: 3 if key in HARMLESS else 0.37})
    plain = GgufFile(write_gguf(tmp_path / "plain.gguf", llama)).config.to_dict()
    try:
        config = GgufFile(path).config.to_dict()
    except UserError as error:
        message = str(error)
    else:
        message = "" if (config != plain) == (key not in HARMLESS) else "dropped"
    assert message == "" or (f"llama.{key}" in message and "\n" not in message)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("expert_count", 8),
        ("attention.causal", False),
        ("attention.sliding_window", 8),
        ("attention.scale", 0.3),
        ("logit_scale", 2.0),
        ("rope.dimension_count", 6),
        ("rope.scaling.type", "su"),
        ("rope.scaling.attn_factor", 1.5),
        ("attention.head_count", [4, 4, 2]),
        ("attention.value_length", 16),
        ("block_count", 2),
        ("block_count", 1 << 30),
        ("vocab_size", 96),
        ("embedding_length", None),
        ("attention.layer_norm_rms_epsilon", None),
        ("attention.layer_norm_rms_epsilon", float("nan")),
        ("context_length", -5.5),
        ("some_new_setting", 1),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(key, value, llama, tmp_path):
    refused(write_gguf(tmp_path / "m.gguf", llama, keys={key: value}), rf"llama\.{key}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.head_count", [4, 4, 4]),  # one for each layer
        ("attention.head_count_kv", [2, 2, 2]),
        ("rope.scaling.type", "none"),
        ("expert_count", 0),
        ("tensor_data_layout", "Meta AI original pth"),
        (":general.name", "mistral"),  # transformers takes this for another architecture
        (":general.sampling.top_k", 40),
        (":mradermacher.quantized_by", "somebody"),
        (":quantize.imatrix.file", "imatrix.dat"),
    ],
)
def test_a_setting_that_changes_nothing_changes_nothing(key, value, llama, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama, keys={key: value})
    expected = llama(torch.tensor([IDS])).logits[0, -1]
    torch.testing.assert_close(logits(path), expected, rtol=1e-4, atol=1e-4)


def test_llama_cpps_defaults_hold_where_a_setting_is_missing(llama, tmp_path):
    keys = {"rope.freq_base": None, "rope.dimension_count": None, "attention.head_count_kv": None}
    equal = tiny_network("llama", head_dim=8, num_key_value_heads=4)
    path = write_gguf(tmp_path / "m.gguf", equal, keys=keys)
    expected = equal(torch.tensor([IDS])).logits[0, -1]
    torch.testing.assert_close(logits(path), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.0.attn_q_norm.weight", (8,)),
        ("blk.1.attn_sinks.weight", (4,)),
        ("blk.2.post_attention_norm.weight", (32,)),
        ("blk.0.ffn_gate_exps.weight", (4, 8, 32)),
        ("blk.0.attn_q.scale", (1,)),
        ("position_embd.weight", (64, 32)),
        ("output.bias", (97,)),
        ("cls.weight", (2, 32)),
        ("rope_factors_long.weight", (4,)),
    ],
)
def test_a_tensor_that_the_model_does_not_use_is_refused_by_name(name, shape, llama, tmp_path):
    more = {name: np.full(shape, 1.5, np.float32)}
    refused(write_gguf(tmp_path / "m.gguf", llama, tensors=more), name.replace(".", r"\."))


@pytest.mark.parametrize(
    "name",
    ["blk.1.attn_q.weight", "blk.2.ffn_norm.weight", "output_norm.weight", "token_embd.weight"],
)
def test_a_tensor_that_is_missing_is_named(name, llama, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama, without=lambda each: each == name)
    refused(path, name.replace(".", r"\."))


@pytest.mark.parametrize("kept", ["attn_output.bias", "attn_q.bias", "ffn_down.bias"])
def test_a_bias_that_no_layer_has_is_zero(kept, tmp_path):
    network = tiny_network("llama", head_dim=8, attention_bias=True, mlp_bias=True)
    for name, weight in network.named_parameters():
        stored = {"o_proj": "attn_output", "q_proj": "attn_q", "down_proj": "ffn_down"}
        ours = stored.get(name.split(".")[-2], "")
        if name.endswith(".bias") and f"{ours}.bias" != kept:
            weight.zero_()
    path = write_gguf(
        tmp_path / "m.gguf", network, without=lambda n: n.endswith(".bias") and kept not in n
    )
    expected = network(torch.tensor([IDS])).logits[0, -1]
    torch.testing.assert_close(logits(path), expected, rtol=1e-4, atol=1e-4)


def test_a_bias_that_one_layer_lacks_is_missing(tmp_path):
    network = tiny_network("llama", head_dim=8, attention_bias=True)
    path = write_gguf(tmp_path / "m.gguf", network, without=lambda n: n == "blk.1.attn_k.bias")
    refused(path, r"lacks 1 tensors of the model: blk\.1\.attn_k\.bias")


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q4_0", "F16", "BF16"])
def test_packed_weights_are_those_of_the_package_gguf(kind, tmp_path):
    kind = gguf.GGMLQuantizationType[kind]
    network = tiny_network("llama", head_dim=8)
    file = write_gguf(tmp_path / "m.gguf", network, kind=kind)
    checkpoint = Checkpoint("m", tmp_path, gguf=file.name)
    assert checkpoint.narrow
    assert checkpoint.quantization == "gguf"
    name = "model.layers.1.mlp.up_proj.weight"
    exact = network.state_dict()[name].numpy()
    expected = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(exact, kind), kind))
    read = checkpoint.network(torch.float32, "eager").state_dict()[name]
    torch.testing.assert_close(read, expected, rtol=0, atol=0)
    half = checkpoint.network(torch.bfloat16, "eager").state_dict()[name]
    assert torch.equal(half, expected.bfloat16())
    assert ih.load_model(file).provenance["unpacked_from"] == "gguf"


def test_k_quants_are_those_of_the_package_gguf(tmp_path):
    """Blocks of 256 weights, which gguf unpacks and cannot pack: random bytes, finite scales."""
    network = tiny_network("llama", hidden_size=256, num_attention_heads=4, intermediate_size=256)
    kind, name = gguf.GGMLQuantizationType.Q4_K, "blk.1.ffn_up.weight"
    blocks = np.random.default_rng(0).integers(0, 256, (256, 144), np.uint8)
    blocks[:, :4] = np.frombuffer(np.array([0.01, 0.02], np.float16).tobytes(), np.uint8)
    file = tmp_path / "m.gguf"
    original = gguf.GGUFWriter.add_tensor

    def add(self, each, array, **options):
        given = (blocks, {"raw_dtype": kind}) if each == name else (array, options)
        original(self, each, given[0], **given[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_tensor", add)
        write_gguf(file, network)
    read = GgufFile(file).network(torch.float32, "eager")
    expected = torch.from_numpy(gguf.quants.dequantize(blocks, kind))
    assert torch.equal(read.model.layers[1].mlp.up_proj.weight, expected)


def test_only_a_file_of_float32_matrices_is_not_narrow(llama, tmp_path):
    assert not GgufFile(write_gguf(tmp_path / "a.gguf", llama)).narrow
    half = gguf.GGMLQuantizationType.F16
    # What the file says of itself does not count: general.file_type is "all float32" here.
    assert GgufFile(write_gguf(tmp_path / "b.gguf", llama, kind=half)).narrow


def test_a_window_that_the_original_has_is_kept(tmp_path):
    for window, pattern in ((4, [1, 0, 1]), (4, [0, 0, 0])):
        types = ["sliding_attention" if each else "full_attention" for each in pattern]
        options = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": window}
        network = tiny_network("gemma3_text", layer_types=types, **options)
        keys = {"attention.sliding_window_pattern": [bool(each) for each in pattern]}
        path = write_gguf(tmp_path / "m.gguf", network, keys=keys)
        expected = network(torch.tensor([IDS])).logits[0, -1]
        torch.testing.assert_close(logits(path), expected, rtol=1e-4, atol=1e-4)
