"""Every stored tensor is used, or loading is refused; the reference is the model that was saved."""

import warnings

import pytest
import torch
import transformers
from helpers.models_on_disk import edit_config, save_folder
from helpers.stored import add_tensors, rewrite
from helpers.tiny_families import tiny
from helpers.tiny_models import tiny_llama
from safetensors.torch import load_file, save_file

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.load import load_model
from inactive_heads.models.weights.checkpoint import Checkpoint

N_LAYERS = 3


def refused(folder, message, **options):
    with pytest.raises(UserError, match=message) as caught:
        load_model(folder, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 320


def loads_as_saved(folder, network):
    """Without a word, with the weights of the model that was saved."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = Checkpoint("x", folder).network(torch.float32, "eager").state_dict()
    stored = network.state_dict()
    assert read.keys() == stored.keys()
    assert all(torch.equal(read[name], stored[name]) for name in stored)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "qwen2",
            {"model_type": "llama", "architectures": None},
            r"k_proj\.bias.*attention_bias=f",
        ),
        ("qwen3", {"model_type": "llama", "architectures": None}, r"self_attn\.k_norm\.weight"),
        ("gemma2", {"model_type": "gemma", "architectures": None}, r"feedforward_layernorm"),
        ("llama", {"num_hidden_layers": 2}, r"9 stored.*describes 2 layers, and the files store 3"),
        ("gpt2", {"n_layer": 1}, r"24 stored.*describes 1 layers, and the files store 3"),
        ("gpt_neox", {"num_hidden_layers": 2}, r"describes 2 layers, and the files store 3"),
    ],
)
def test_tensors_that_the_configuration_does_not_use_are_named(tmp_path, kind, change, message):
    folder = save_folder(tmp_path, tiny(kind), tokenizer=None)
    edit_config(folder, **change)
    refused(folder, message)


@pytest.mark.parametrize(
    "options", [{"engine": "lens"}, {"dtype": "float64"}, {"device_map": "cpu"}]
)
def test_they_are_named_however_a_model_is_loaded(tmp_path, options):
    folder = save_folder(tmp_path, tiny("llama"), tokenizer=None)
    edit_config(folder, num_hidden_layers=2)
    refused(folder, "describes 2 layers, and the files store 3", **options)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "LoRA.*merge_and_unload"),
        ("model.layers.1.mlp.up_proj.lora_B.default.weight", "LoRA"),
        ("model.layers.2.self_attn.q_proj.base_layer.weight", "LoRA"),
        ("base_model.model.model.norm.weight", "PEFT's names"),
        ("score.weight", "classifier or reward model"),
        ("v_head.summary.weight", "classifier or reward model"),
        ("model.layers.0.self_attn.bias", r"self_attn\.bias"),  # a vector is no causal mask
        ("no.such.part", r"1 stored tensors are not used.*no\.such\.part"),
    ],
)
def test_an_extra_tensor_is_refused_with_its_likely_cause(tmp_path, extra, message):
    folder = save_folder(tmp_path, tiny("llama"), tokenizer=None)
    add_tensors(folder, {extra: torch.ones(32)})
    refused(folder, message)


def test_what_an_adapter_has_renamed_is_not_called_damage(tmp_path):
    folder = save_folder(tmp_path, tiny("llama"), tokenizer=None)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for layer in range(3):
        module = f"model.layers.{layer}.self_attn.q_proj"
        tensors[f"{module}.base_layer.weight"] = tensors.pop(f"{module}.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    refused(folder, "lack 3 tensors of the model.*q_proj.weight; .*LoRA.*merge_and_unload")


def test_what_a_pattern_of_transformers_hides_is_found(tmp_path):
    """GPT-NeoX ignores whatever is called attention.bias, be it a mask or not."""
    folder = save_folder(tmp_path, tiny("gpt_neox"), tokenizer=None)
    add_tensors(folder, {"gpt_neox.layers.1.attention.bias": torch.ones(32)})
    refused(folder, r"1 stored tensors are not used.*gpt_neox\.layers\.1\.attention\.bias")


BASES = 10000.0 ** (-torch.arange(0, 8, 2) / 8)


@pytest.mark.parametrize(
    ("kind", "layer", "extra"),
    [
        ("gpt2", "transformer.h.{}.attn.", {"bias": torch.ones(1, 1, 64, 64).tril()}),
        ("gpt2", "transformer.h.{}.attn.", {"masked_bias": torch.tensor(-1e4)}),
        ("gpt_neox", "gpt_neox.layers.{}.attention.", {"bias": torch.ones(1, 1, 64, 64).bool()}),
        ("gpt_neox", "gpt_neox.layers.{}.attention.", {"masked_bias": torch.tensor(-1e9)}),
        ("llama", "model.layers.{}.self_attn.rotary_emb.", {"inv_freq": BASES}),
        ("llama", "model.layers.{}.self_attn.rotary_emb.", {"inv_freq": BASES.half()}),
    ],
)
def test_buffers_that_are_computed_pass_in_silence(tmp_path, kind, layer, extra):
    network = tiny(kind)
    folder = save_folder(tmp_path, network, tokenizer=None)
    add_tensors(
        folder,
        {
            layer.format(i) + name: value.clone()
            for i in range(N_LAYERS)
            for name, value in extra.items()
        },
    )
    loads_as_saved(folder, network)


@pytest.mark.parametrize("wrong", [500000.0 ** (-torch.arange(0, 8, 2) / 8), BASES[:2], 2 * BASES])
def test_stored_rotary_frequencies_have_to_be_those_of_the_configuration(tmp_path, wrong):
    folder = save_folder(tmp_path, tiny("llama"), tokenizer=None)
    add_tensors(folder, {"model.layers.0.self_attn.rotary_emb.inv_freq": wrong.clone()})
    refused(folder, r"inv_freq are not those of its configuration \(rope_theta")


def test_tied_matrices_have_to_be_equal(tmp_path):
    folder = save_folder(tmp_path / "untied", tiny_llama(), tokenizer=None)
    edit_config(folder, tie_word_embeddings=True)
    refused(folder, r"tie_word_embeddings=true, and the stored output matrix differs")
    network = tiny_llama(tie_word_embeddings=True)
    folder = save_folder(tmp_path / "both", network, tokenizer=None)
    embeddings = network.model.embed_tokens.weight
    add_tensors(folder, {"lm_head.weight": embeddings.clone()})
    loads_as_saved(folder, network)
    add_tensors(folder, {"lm_head.weight": embeddings + 1})
    refused(folder, r"tie_word_embeddings=true, and the stored output matrix differs")
    folder = save_folder(tmp_path / "lost", network, tokenizer=None)
    edit_config(folder, tie_word_embeddings=False)
    refused(folder, r"lack 1 tensors of the model, among them lm_head\.weight")


def test_weights_without_or_with_the_prefix_of_the_head_are_the_same(tmp_path):
    network = tiny("gpt2")
    folder = save_folder(tmp_path, network, tokenizer=None)
    rewrite(
        folder, lambda t: [t.update({k.removeprefix("transformer."): t.pop(k)}) for k in list(t)]
    )
    loads_as_saved(folder, network)


def test_two_stored_tensors_for_one_weight_have_to_be_equal(tmp_path):
    network = tiny("llama")
    folder = save_folder(tmp_path, network, tokenizer=None)
    weight = network.model.norm.weight.detach()
    add_tensors(folder, {"norm.weight": weight.clone()})
    loads_as_saved(folder, network)
    add_tensors(folder, {"norm.weight": weight + 1})
    refused(folder, r"norm\.weight and .*norm\.weight differ, and both fill the weight")


def deepseek():
    return tiny(
        "deepseek_v3",
        head_dim=None,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        num_key_value_heads=4,
    )


def test_a_layer_that_predicts_ahead_is_left_out_in_silence(tmp_path):
    """DeepSeek stores it after the others; it is told from a lost layer by its parts."""
    network = deepseek()
    folder = save_folder(tmp_path, network, tokenizer=None)
    ahead = {"eh_proj.weight": torch.ones(32, 64), "self_attn.o_proj.weight": torch.ones(32, 32)}
    add_tensors(folder, {f"model.layers.{N_LAYERS}.{name}": t for name, t in ahead.items()})
    loads_as_saved(folder, network)
    edit_config(folder, num_hidden_layers=2)
    refused(folder, r"model\.layers\.2\.")


@pytest.mark.parametrize("name", ["vision_tower.patch.weight", "mtp.0.norm.weight", "visual.x"])
def test_towers_that_no_text_goes_through_are_noticed(tmp_path, name):
    folder = save_folder(tmp_path, tiny("llama"), tokenizer=None)
    add_tensors(folder, {name: torch.ones(32)})
    with pytest.warns(Notice, match=f"leaves out 1 stored tensors .*{name}"):
        Checkpoint("x", folder).network(torch.float32, "eager")


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gpt_bigcode", "falcon", "bloom", "opt"])
def test_weights_that_transformers_renames_or_merges_are_used(tmp_path, kind):
    """Experts are stored one by one and merged when they are loaded."""
    experts = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
    special = {
        "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "bloom": {"n_head": 4, "n_layer": 3},
    }
    options = special.get(kind, experts if kind in ("mixtral", "qwen3_moe") else {})
    network = tiny(kind, **options)
    folder = save_folder(tmp_path, network, tokenizer=None)
    loads_as_saved(folder, network)


def test_the_class_that_a_configuration_names_counts(tmp_path):
    config = tiny_llama(tie_word_embeddings=True).config
    folder = save_folder(
        tmp_path / "score", transformers.LlamaForSequenceClassification(config), tokenizer=None
    )
    refused(folder, "is a LlamaForSequenceClassification, not a causal language model")
    for named in ("LlamaModel", "MistralForCausalLM"):
        folder = save_folder(tmp_path / named, tiny_llama(), tokenizer=None)
        edit_config(folder, architectures=[named])
        with pytest.warns(Notice, match=f"names the class {named}, .* loaded as LlamaForCausalLM"):
            load_model(folder)
