"""What the caller has changed since a model was loaded has no effect, or is refused by name."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.tiny_families import samples, tiny

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model

INPUTS = samples((11, 7, 9))
SHARED = [INPUTS[0] + [token] for token in range(5)]


@contextlib.contextmanager
def changed(change, restore):
    change()
    try:
        yield
    finally:
        restore()


def default_dtype(dtype):
    return lambda network: changed(
        lambda: torch.set_default_dtype(dtype), lambda: torch.set_default_dtype(torch.float32)
    )


def in_training(network):
    return changed(network.train, network.eval)


def checkpointing(network):
    # transformers 5.23 has a new name for it, and warns of the old one.
    kind = "activation" if hasattr(network, "activation_checkpointing_enable") else "gradient"

    def change():
        network.train()
        getattr(network, f"{kind}_checkpointing_enable")()

    def restore():
        getattr(network, f"{kind}_checkpointing_disable")()
        network.eval()

    return changed(change, restore)


def config_value(name, value):
    def make(network):
        before = getattr(network.config, name)
        return changed(
            lambda: setattr(network.config, name, value),
            lambda: setattr(network.config, name, before),
        )

    return make


def attention(name):
    def make(network):
        before = network.config._attn_implementation
        return changed(
            lambda: network.set_attn_implementation(name),
            lambda: network.set_attn_implementation(before),
        )

    return make


def precision(name):
    return lambda network: changed(
        lambda: torch.set_float32_matmul_precision(name),
        lambda: torch.set_float32_matmul_precision("highest"),
    )


def looking_hook(network):
    handles = [
        module.register_forward_hook(lambda module, args, output: None)
        for module in network.model.layers
    ]
    return changed(lambda: None, lambda: [handle.remove() for handle in handles])


SETTINGS = {
    "default dtype bfloat16": default_dtype(torch.bfloat16),
    "default dtype float16": default_dtype(torch.float16),
    "default dtype float64": default_dtype(torch.float64),
    "default device": lambda network: changed(
        lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)
    ),
    "device context": lambda network: torch.device("meta"),
    "autocast": lambda network: torch.autocast("cpu", torch.bfloat16),
    "inference mode": lambda network: torch.inference_mode(),
    "gradients": lambda network: torch.enable_grad(),
    "training": in_training,
    "gradient checkpointing": checkpointing,
    "no cache": config_value("use_cache", False),
    "tuples": config_value("return_dict", False),
    "hidden states": config_value("output_hidden_states", True),
    "eager attention": attention("eager"),
    "flex attention": attention("flex_attention"),
    "bfloat16 products": precision("medium"),
    "TF32 products": precision("high"),
    "deterministic": lambda network: changed(
        lambda: torch.use_deterministic_algorithms(True),
        lambda: torch.use_deterministic_algorithms(False),
    ),
    "a hook that looks": looking_hook,
}
ENGINES = ("flash", "lens")


@ih.score_function("OWN@settings", inactive="below")
def own_score(heads):
    """Makes tensors of its own, in the default dtype and on the default device."""
    ones = torch.ones(heads.batch.tokens.shape)[:, :, None]
    return heads.mean_over_tokens(heads.z_norm + ones + torch.tensor([1 / 3]))


@pytest.fixture(scope="module", params=ENGINES)
def loaded(request):
    """A model with a sliding window and dropout, and what it gives in peace."""
    network = tiny("mistral", attention_dropout=0.5)
    if request.param == "flash":
        engine = FlashEngine(network, "tiny")
    else:
        network.set_attn_implementation("eager")
        engine = LensEngine(bridge_of(network, "tiny"))
    model = Model(engine, None, {"model": "tiny"}, lambda text: [])
    return model, network, numbers(model)


def numbers(model):
    """Numbers of every kind that leave an engine."""
    quiet = {"progress": False}
    means = ih.mean_head_outputs(model, INPUTS, **quiet)
    run = ih.ablate(model, INPUTS, ih.PerInput("AHON (LN)", 0.97), **quiet)
    view = ih.head_view(model, INPUTS[0], 1, 1)
    text = ih.generate(model, INPUTS, max_new_tokens=3, **quiet).tokens
    losses = [
        ih.evaluate(model, ih.TextTask("texts", texts), **quiet).items["loss"].to_numpy()
        for texts in (INPUTS, SHARED)
    ]
    names = [*ih.PAPER_SCORES, "OWN@settings"]
    return {
        "scores": ih.score_heads(model, INPUTS, scores=names, **quiet).values,
        "zeroed": run.zeroed.values,
        "ablated": run.logits.numpy(),
        "plain": ih.ablate(model, INPUTS, None, **quiet).logits.numpy(),
        "replaced": ih.ablate(model, INPUTS, ih.Fixed([(1, 1)], means), **quiet).logits.numpy(),
        "random": ih.ablate(model, INPUTS, ih.Random(0.3), **quiet).logits.numpy(),
        "losses": losses[0],
        "losses with a shared beginning": losses[1],
        "generated": np.array(text),
        "pattern": view.pattern,
        "means": means.values,
    }


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_caller_have_no_effect(loaded, setting):
    model, network, expected = loaded
    with SETTINGS[setting](network):
        found = numbers(model)
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        if name in ("zeroed", "generated"):
            np.testing.assert_array_equal(found[name], expected[name])
        else:
            assert_close(found[name], expected[name], rtol=1e-5, err_msg=name)
    assert torch.get_default_dtype() == torch.float32
    assert not network.training


def settings_of(network):
    """What a caller can see of its own settings."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "inference": torch.is_inference_mode_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "training": {name: module.training for name, module in network.named_modules()},
        "attention": network.config._attn_implementation,
        "tuples": not network.config.return_dict,
    }


SEEN = {
    "dtype": "default dtype float64",
    "device": "device context",
    "autocast": "autocast",
    "inference": "inference mode",
    "precision": "TF32 products",
    "training": "training",
    "attention": "flex attention",
    "tuples": "tuples",
}


@pytest.mark.parametrize("name", SEEN)
def test_the_callers_settings_stand_again_after_a_run(loaded, name):
    model, network, _ = loaded
    usual = settings_of(network)
    with SETTINGS[SEEN[name]](network):
        before = settings_of(network)
        ih.score_heads(model, INPUTS, progress=False)
        after = settings_of(network)
    assert before == after
    assert before[name] != usual[name]


@pytest.mark.parametrize("place", ["mlp", "o_proj", "a pre-hook", "all modules"])
def test_a_hook_that_changes_anything_is_refused_by_name(loaded, place):
    model, network, expected = loaded
    layer = network.model.layers[1]
    own = getattr(layer.mlp, "original_component", layer.mlp)
    if place == "all modules":
        register = torch.nn.modules.module.register_module_forward_hook
        handle = register(lambda module, args, output: output if torch.is_tensor(output) else None)
    elif place == "a pre-hook":
        handle = own.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    elif place == "mlp":
        handle = own.register_forward_hook(lambda module, args, output: output * 2)
    else:
        projection = layer.self_attn.o_proj
        projection = getattr(projection, "original_component", projection)
        handle = projection.register_forward_hook(lambda module, args, output: output * 2)
    hook = handle.hooks_dict_ref()[handle.id]
    try:
        with pytest.raises(ih.UserError, match="a hook on .* changes what the model computes"):
            ih.ablate(model, INPUTS, None, progress=False)
        assert handle.hooks_dict_ref()[handle.id] is hook  # the caller's own again
    finally:
        handle.remove()
    found = ih.ablate(model, INPUTS, None, progress=False).logits
    assert_close(found, expected["plain"], rtol=1e-6)


def test_hooks_of_transformer_lens_may_look_and_not_change():
    network = tiny("llama")
    network.set_attn_implementation("eager")
    bridge, seen = bridge_of(network, "tiny"), []
    expected = ih.score_heads(bridge, INPUTS, progress=False)
    look = ("blocks.1.attn.hook_z", lambda z, hook: seen.append(z.shape))
    with bridge.hooks(fwd_hooks=[look]):
        found = ih.score_heads(bridge, INPUTS, progress=False)
    assert seen
    np.testing.assert_array_equal(found, expected)
    for name in ("blocks.1.attn.hook_z", "blocks.0.hook_resid_post"):
        with (
            bridge.hooks(fwd_hooks=[(name, lambda z, hook: z * 2)]),
            pytest.raises(ih.UserError, match="a hook on module .* changes what"),
        ):
            ih.score_heads(bridge, INPUTS, progress=False)


@pytest.mark.parametrize(
    "setting", ["default dtype bfloat16", "default device", "autocast", "device context"]
)
def test_scores_of_a_cache_do_not_depend_on_settings(setting):
    network = tiny("llama")
    network.set_attn_implementation("eager")
    bridge = bridge_of(network, "tiny")
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.tensor(INPUTS[:1]))
    expected = ih.score_cache(cache)
    with SETTINGS[setting](network):
        found = ih.score_cache(cache)
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize("setting", ["default dtype bfloat16", "default device", "autocast"])
def test_a_model_is_loaded_alike_under_any_setting(setting):
    expected = ih.load_model("llama-style-tiny")
    with SETTINGS[setting](None):
        found = ih.load_model("llama-style-tiny")
    both = zip(
        expected.engine.network.state_dict().items(),
        found.engine.network.state_dict().items(),
        strict=True,
    )
    for (name, one), (other_name, other) in both:
        assert name == other_name
        assert torch.equal(one, other)
    assert found.provenance["dtype"] == expected.provenance["dtype"]


def test_hooks_by_which_transformerlens_shows_a_layer_are_the_models_and_others_the_callers():
    """In OPT, an MLP is no module of its own: TransformerLens fires its hooks from two others."""
    network = tiny("opt")
    network.set_attn_implementation("eager")
    bridge = bridge_of(network, "tiny")
    found = ih.score_heads(bridge, INPUTS, progress=False)
    expected = ih.score_heads(Model(FlashEngine(tiny("opt"), "tiny"), None, {}, list), INPUTS)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    bridge.add_hook("blocks.1.attn.hook_z", lambda z, hook: z * 2, is_permanent=True)
    with pytest.raises(ih.UserError, match="a hook on module .* changes what"):
        ih.score_heads(bridge, INPUTS, progress=False)
