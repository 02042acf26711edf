"""Tiny models with random weights, and inputs for them."""

import torch
import transformers

SAMPLES = [[5], [7, 9], [11, 3, 96, 4, 8], list(range(1, 20)), [2, 2, 2, 50, 60, 70, 80, 90]]


def tiny(config: transformers.PretrainedConfig, seed: int = 0) -> transformers.PreTrainedModel:
    """A random-weight model with weights large enough that its heads differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for parameter in network.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.25)
            elif not bool(parameter.any()):  # biases start at zero and would test nothing
                torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


def tiny_llama(**changes) -> transformers.PreTrainedModel:
    sizes = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return tiny(transformers.LlamaConfig(**sizes | changes))


def tiny_gpt2() -> transformers.PreTrainedModel:
    return tiny(
        transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=3, n_head=4, n_positions=64)
    )


NETWORKS = {"gpt2": tiny_gpt2, "llama": tiny_llama}
