"""Checkpoints of images and text, as the hub has them: what is loaded, and its logits for text."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

import inactive_heads as ih
from inactive_heads.errors import UserError
from inactive_heads.models.weights.checkpoint import Checkpoint

TOKENS = torch.tensor([[5, 6, 7, 8, 9, 3, 40]])
TEXT = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "head_dim": 8}
PIXTRAL = TOWER | {
    "model_type": "pixtral",
    "num_hidden_layers": 1,
    "image_size": 32,
    "patch_size": 8,
}
QWEN_TOWER = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
}
KINDS = {
    "gemma4": {
        "text_config": TEXT
        | {
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "sliding_window": 4,
            "global_head_dim": 32,
            "vocab_size_per_layer_input": 97,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 2,
        },
        "vision_config": TOWER | {"num_hidden_layers": 1, "num_key_value_heads": 2},
        "audio_config": None,
    },
    "llama4": {
        "text_config": TEXT | {"num_local_experts": 2, "intermediate_size_mlp": 32},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
    },
    "qwen3_5": {"text_config": TEXT | LINEAR, "vision_config": QWEN_TOWER},
    "qwen3_5_moe": {"text_config": TEXT | LINEAR | EXPERTS, "vision_config": QWEN_TOWER},
}


def stored(folder, architecture, options):
    """A network of images and text with random weights, written to a folder."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **options)
    network = AutoModelForImageTextToText.from_config(config).eval().requires_grad_(False)
    network.save_pretrained(folder)
    return network


@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.filterwarnings("ignore:.*leaves out 26 stored tensors of images")
def test_the_text_part_of_a_checkpoint_gives_its_logits(architecture, tmp_path):
    network = stored(tmp_path, architecture, KINDS[architecture])
    loaded = Checkpoint("tiny", tmp_path).network(torch.float32, "eager")
    torch.testing.assert_close(
        loaded(input_ids=TOKENS).logits, network(input_ids=TOKENS).logits, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("text", ["ministral3", "mistral"])
@pytest.mark.parametrize("tied", [True, False])
def test_mistral_3_is_loaded_with_its_tower_and_given_text(text, tied, tmp_path):
    options = TEXT | {"model_type": text, "tie_word_embeddings": tied, "sliding_window": None}
    both = {"text_config": options, "vision_config": PIXTRAL, "tie_word_embeddings": tied}
    network = stored(tmp_path, "mistral3", both)
    model = ih.load_model(tmp_path, dtype="float32")
    assert (model.shape.n_layers, model.shape.n_heads, model.shape.d_head) == (4, 4, 16)
    run = ih.ablate(model, TOKENS.tolist(), None)
    torch.testing.assert_close(
        torch.as_tensor(run.logits),
        network(input_ids=TOKENS).logits[:, -1],
        rtol=0,
        atol=1e-5,
    )


def test_other_models_of_images_and_text_are_refused(tmp_path):
    text = TEXT | {"model_type": "llama"}
    tower = {"model_type": "clip_vision_model", "hidden_size": 16, "num_hidden_layers": 1}
    tower |= {"num_attention_heads": 2, "intermediate_size": 32, "image_size": 28, "patch_size": 14}
    stored(tmp_path, "llava", {"text_config": text, "vision_config": tower})
    with pytest.raises(UserError, match="is not a causal language model"):
        ih.load_model(tmp_path)
