import pytest
import torch

from inactive_heads.errors import UserError
from inactive_heads.models.load import load_model
from inactive_heads.models.weights.random_weights import parse_architecture

LLAMA = {
    "architecture": "llama",
    "n_layers": 2,
    "n_heads": 4,
    "n_key_value_heads": 2,
    "d_model": 32,
    "n_ctx": 16,
    "d_vocab": 50,
}
GPT2 = {key: value for key, value in LLAMA.items() if key != "n_key_value_heads"} | {
    "architecture": "gpt2"
}


def parse(table):
    return parse_architecture(table, where="my.toml", name="my")


def weights(architecture, dtype=torch.float32):
    return architecture.network(dtype, "eager").state_dict()


@pytest.mark.parametrize("table", [LLAMA, GPT2])
def test_sizes_of_a_described_model(tmp_path, table):
    lines = [f"{key} = {value!r}" for key, value in table.items()]
    path = tmp_path / "my.toml"
    path.write_text("\n".join([*lines, "d_mlp = 40"]))
    model = load_model(path)
    shape = model.shape
    assert model.name == "my"
    assert model.tokenizer is None
    assert model.engine.dtype == torch.float32
    assert (shape.n_layers, shape.n_heads, shape.d_model, shape.d_head) == (2, 4, 32, 8)
    assert (shape.n_ctx, shape.d_vocab) == (16, 50)
    assert shape.n_key_value_heads == table.get("n_key_value_heads", 4)


def test_a_head_size_of_its_own():
    network = parse(LLAMA | {"d_head": 6}).network(torch.float32, "eager")
    assert network.model.layers[0].self_attn.q_proj.weight.shape == (24, 32)
    assert network.model.layers[0].self_attn.k_proj.weight.shape == (12, 32)
    assert network.model.layers[0].mlp.up_proj.weight.shape == (128, 32)


@pytest.mark.parametrize("table", [LLAMA, GPT2])
def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(table):
    state = torch.random.get_rng_state()
    one, same, other = (
        weights(parse(table)),
        weights(parse(table)),
        weights(parse(table | {"seed": 1})),
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = [name for name in one if one[name].ndim == 2]
    assert not any(torch.equal(one[name], other[name]) for name in drawn)
    rounded = weights(parse(table), torch.bfloat16)
    assert all(torch.equal(one[name].bfloat16(), rounded[name]) for name in one)


def test_the_network_neither_trains_nor_drops():
    network = parse(GPT2).network(torch.float32, "eager")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (LLAMA | {"architecture": "bert"}, r'architecture = \'bert\'; it can be "gpt2" or "llama"'),
        ({}, r"architecture = None"),
        (LLAMA | {"n_head": 4}, r"n_head = 4 is not a key of a llama .* n_heads"),
        (GPT2 | {"n_key_value_heads": 2}, r"n_key_value_heads = 2 is not a key of a gpt2"),
        ({**LLAMA, "n_heads": 0}, r"n_heads = 0; give a whole number of at least 1"),
        ({**LLAMA, "n_heads": 2.0}, r"n_heads = 2.0; give a whole number"),
        ({**LLAMA, "n_heads": True}, r"n_heads = True; give a whole number"),
        ({**LLAMA, "d_vocab": "50"}, r"d_vocab = '50'; give a whole number"),
        ({**LLAMA, "seed": -1}, r"seed = -1; give a whole number of at least 0"),
        ({**LLAMA, "seed": 2**64}, r"seed = \d+; give a whole number"),
        ({**LLAMA, "name": 3}, r"name = 3; give a text in quotes"),
        ({**GPT2, "d_model": 30}, r"d_model = 30 is not a multiple of n_heads = 4"),
        ({**LLAMA, "d_model": 30}, r"d_model = 30 is not a multiple .* or give d_head"),
        ({**GPT2, "d_head": 6}, r"d_head = 6, but in gpt2 it is d_model / n_heads = 8"),
        (
            {**LLAMA, "n_key_value_heads": 3},
            r"n_heads = 4 is not a multiple of n_key_value_heads = 3",
        ),
        ({**LLAMA, "d_head": 5}, r"d_head = 5 is odd"),
        ({"architecture": "gpt2", "n_layers": 1}, r"n_heads, d_model, n_ctx, d_vocab is missing"),
    ],
)
def test_a_description_that_makes_no_model_is_refused(table, message):
    with pytest.raises(UserError, match=f"^my.toml: .*{message}") as caught:
        parse(table)
    assert "\n" not in str(caught.value)
