"""Which files a folder's weights are read from, and indexes that do not fit their files."""

import json
import shutil
import warnings

import pytest
import torch
from helpers.models_on_disk import edit_config, save_folder
from helpers.stored import add_tensors
from helpers.tiny_models import tiny_llama
from safetensors.torch import load_file, save_file

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.weights.checkpoint import Checkpoint

INDEX = "model.safetensors.index.json"


@pytest.fixture
def sharded(tmp_path):
    return save_folder(tmp_path / "x", tokenizer=None, max_shard_size="20KB")


def shards(folder):
    return sorted(folder.glob("model-*.safetensors"))


def edit_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


def read(folder):
    return Checkpoint("x", folder).network(torch.float32, "eager").state_dict()


def refused(folder, message):
    with pytest.raises(UserError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def is_as_saved(found):
    stored = tiny_llama().state_dict()
    return found.keys() == stored.keys() and all(torch.equal(found[k], stored[k]) for k in stored)


def test_an_index_that_names_a_tensor_of_no_file_is_refused(sharded):
    edit_index(sharded, lambda names: names.update({"model.extra": shards(sharded)[0].name}))
    refused(sharded, r"names 1 tensors that no weight file has, among them model\.extra")


def test_a_shard_that_the_index_lacks_is_missed(sharded):
    last = shards(sharded)[-1].name
    edit_index(
        sharded, lambda names: [names.pop(k) for k, file in list(names.items()) if file == last]
    )
    with pytest.warns(Notice, match=f"{last}.* not read"):
        refused(sharded, "lack 1 tensors of the model")


def test_a_tensor_in_two_shards_has_to_be_the_same(sharded):
    first, second = shards(sharded)[:2]
    name, tensor = next(iter(load_file(second).items()))
    add_tensors(sharded, {name: tensor}, first.name)
    assert is_as_saved(read(sharded))
    add_tensors(sharded, {name: tensor + 1}, first.name)
    refused(
        sharded, f"store {name} twice, with different values, in {first.name} and {second.name}"
    )


@pytest.mark.parametrize(
    "index", [5, [], {"weight_map": 5}, {"weight_map": {"a": 5}}, {"weight_map": {"a": "../x"}}, {}]
)
def test_an_index_of_another_form_is_refused(sharded, index):
    (sharded / INDEX).write_text(json.dumps(index))
    refused(sharded, "index.json cannot be read")


def test_weights_that_are_not_read_are_noticed(sharded):
    shutil.copy(shards(sharded)[0], sharded / "model-00099-of-00099.safetensors")
    with pytest.warns(
        Notice, match=r"model-00099-of-00099\.safetensors in the same folder are not"
    ):
        assert is_as_saved(read(sharded))
    whole = {name: tensor.clone() + 1 for name, tensor in tiny_llama().state_dict().items()}
    save_file(whole, sharded / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(Notice, match=r"are read from model\.safetensors; model-00001-of-"):
        found = read(sharded)
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_the_file_that_the_configuration_names_is_read(tmp_path):
    folder = save_folder(tmp_path, tokenizer=None)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    edit_config(folder, transformers_weights="other.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_as_saved(read(folder))
    edit_config(folder, transformers_weights="none.safetensors")
    refused(folder, "has no weights")
