"""Weights that are no numbers, or that the dtype cannot hold, are refused by name."""

import math

import pytest
import torch
from helpers.models_on_disk import edit_config, save_folder
from helpers.stored import rewrite
from helpers.tiny_families import tiny
from helpers.tiny_models import tiny_gpt2, tiny_llama

from inactive_heads.errors import UserError
from inactive_heads.models.load import load_model
from inactive_heads.models.weights.finite import Products, check_finite, watch_products

UP = "model.layers.1.mlp.up_proj.weight"


def stored_with(folder, name, value, network=None):
    """A tiny model in a folder, one of whose numbers is changed."""
    save_folder(folder, network or tiny_llama(), tokenizer=None)
    rewrite(folder, lambda tensors: tensors[name].view(-1).__setitem__(7, value))
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_number_is_named(tmp_path, value, dtype):
    folder = stored_with(tmp_path / "bad", UP, value)
    with pytest.raises(UserError, match=rf"{UP} \(layer 1\) has 1 values .* such as {value}"):
        load_model(folder, dtype=dtype)


@pytest.mark.parametrize(
    "name", ["model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"]
)
@pytest.mark.parametrize("options", [{"engine": "lens"}, {"device_map": "cpu"}])
def test_wherever_it_is_and_however_it_is_loaded(tmp_path, name, options):
    folder = stored_with(tmp_path / "bad", name, math.nan)
    with pytest.raises(UserError, match=rf"{name} has 1 values that are NaN"):
        load_model(folder, dtype="float32", **options)


def test_biases_are_looked_at_too(tmp_path):
    folder = stored_with(tmp_path, "transformer.h.2.attn.c_attn.bias", math.inf, tiny_gpt2())
    with pytest.raises(UserError, match=r"h\.2\.attn\.c_attn\.bias \(layer 2\)"):
        load_model(folder)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (
            70000.0,
            "float16",
            r'has the value 70000, and float16 ends at 65504; give dtype="bfloat16"',
        ),
        (-1e6, "float16", r"has the value 1e\+06, and float16 ends at 65504"),
        (
            3.4e38,
            "bfloat16",
            r'has the value 3\.4e\+38, and bfloat16 ends at 3\.38953e\+38; give dtype="float32"',
        ),
    ],
)
def test_a_weight_that_the_dtype_cannot_hold_is_named(tmp_path, value, dtype, message):
    folder = stored_with(tmp_path, UP, value)
    with pytest.raises(UserError, match=rf"{UP} \(layer 1\) {message}"):
        load_model(folder, dtype=dtype)


@pytest.mark.parametrize("value", [65504.0, -65504.0, 65519.0])
def test_the_largest_number_of_a_dtype_is_no_fault(tmp_path, value):
    folder = stored_with(tmp_path, UP, value)
    weight = load_model(folder, dtype="float16").engine.network.get_parameter(UP)
    assert float(weight.view(-1)[7].float()) == math.copysign(65504.0, value)


def test_large_numbers_whose_sum_overflows_are_numbers():
    network = tiny_llama()
    network.get_parameter(UP).fill_(3e38)
    check_finite(network, "x", [])
    network.get_parameter(UP).zero_()
    check_finite(network, "x", [])
    network.half().get_parameter(UP).fill_(6e4)
    check_finite(network, "x", [])


def test_without_stored_tensors_the_weight_is_named_all_the_same():
    network = tiny_llama()
    network.get_parameter(UP)[0, 0] = math.nan
    with pytest.raises(UserError, match=rf"{UP} \(layer 1\) has NaN or infinite values in float32"):
        check_finite(network, "x", [])


def test_weights_without_memory_were_never_filled():
    network = tiny_llama()
    network.model.layers[1].mlp.to("meta")
    with pytest.raises(UserError, match=r"model\.layers\.1\.mlp\.\w+\.weight was never filled"):
        check_finite(network, "x", [])


def test_rotary_frequencies_are_numbers(tmp_path):
    network = tiny("llama")
    network.model.rotary_emb.inv_freq.fill_(math.inf)
    with pytest.raises(UserError, match=r"inv_freq is not a finite number"):
        check_finite(network, "x", [])
    folder = save_folder(tmp_path, tiny("llama"), tokenizer=None)
    for wrong in (0.0, -1.0, 1.0):
        edit_config(folder, rope_parameters={"rope_theta": wrong, "rope_type": "default"})
        with pytest.raises(UserError, match="rope_theta is"):
            load_model(folder)


def weights_proven(network, run):
    """The names of the weights that a run proves finite."""
    with watch_products(network) as products:
        run()
    proven = products.proven()
    return {name for name, weight in network.named_parameters() if weight in proven}


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_a_run_proves_the_weights_of_the_linear_layers_that_it_uses(make):
    network = make()
    found = weights_proven(network, lambda: network(torch.tensor([[1, 2, 3]])))
    linear = {
        name
        for name, weight in network.named_parameters()
        if weight.ndim == 2 and not name.endswith(("wpe.weight", "embed_tokens.weight"))
    }
    biases = {name for name, _ in network.named_parameters() if name.endswith("proj.bias")}
    assert linear | biases <= found
    assert not [name for name in found if "norm" in name or "ln_" in name]
    assert weights_proven(network, lambda: None) == set()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kept", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_product_hides_a_weight_that_is_no_number(value, kept, dtype):
    layer = torch.nn.Linear(8, 8).to(dtype)
    layer.weight.data[3, 5] = value
    inputs = torch.ones(1, 4, 8, dtype=dtype)
    inputs[..., 5] = kept  # NaN and infinity times 0 are NaN
    network = torch.nn.Sequential(layer, torch.nn.ReLU(), torch.nn.Linear(8, 2).to(dtype))
    found = weights_proven(network, lambda: network(inputs).nan_to_num())
    assert not found & {"0.weight", "0.bias"}


def test_a_layer_without_tokens_and_another_network_prove_nothing():
    own, other = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.nn.Linear(4, 4)
    assert weights_proven(own, lambda: own(torch.ones(0, 4))) == set()
    assert weights_proven(own, lambda: other(torch.ones(2, 4))) == set()
    assert weights_proven(own, lambda: (own(torch.ones(0, 4)), own(torch.ones(2, 4)))) == {
        "0.weight",
        "0.bias",
    }
    assert Products().proven() == set()


@pytest.mark.parametrize("name", ["q_proj", "gate_proj", "down_proj"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_whatever_a_damaged_weight_makes_of_the_first_run_it_is_named(tmp_path, name, value):
    place = "self_attn" if name == "q_proj" else "mlp"
    weight = f"model.layers.0.{place}.{name}.weight"
    folder = stored_with(tmp_path / "bad", weight, value)
    with pytest.raises(UserError, match=rf"{weight} \(layer 0\) has 1 values") as found:
        load_model(folder)
    assert found.value.__suppress_context__
