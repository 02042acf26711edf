import json
import pickle
import threading

import gguf
import pytest
import torch
import transformers
from helpers.models_on_disk import edit_config, save_folder, word_tokenizer, write_gguf
from helpers.stored import rewrite
from helpers.tiny_models import tiny_gpt2, tiny_llama

from inactive_heads.errors import UserError
from inactive_heads.models.load import load_model
from inactive_heads.models.weights import bundled as demo
from inactive_heads.models.weights.checkpoint import Checkpoint

Q8 = gguf.LlamaFileType.MOSTLY_Q8_0


def refused(folder, message):
    with pytest.raises(UserError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_sharded_weights_are_the_same_as_whole_ones(tmp_path):
    network = tiny_gpt2()
    folder = save_folder(tmp_path, network, max_shard_size="20KB")
    assert not (folder / "model.safetensors").exists()
    read = Checkpoint("x", folder).network(torch.float32, "eager")
    stored = network.state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in read.state_dict().items())


def test_a_missing_shard_is_named(tmp_path):
    folder = save_folder(tmp_path, max_shard_size="20KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    refused(folder, rf"lacks 1 of the \d+ weight files.*{shard.name}")


@pytest.mark.parametrize("kept", [0.5, 0.01, 0.0])
def test_truncated_weights_are_refused(tmp_path, kept):
    folder = save_folder(tmp_path / "cut")
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    refused(folder, r"the weights of 'cut' cannot be .*\(SafetensorError.*get it again")


def test_a_missing_tensor_is_not_made_up(tmp_path):
    folder = save_folder(tmp_path / "holey", tiny_gpt2())
    rewrite(folder, lambda tensors: tensors.pop("transformer.h.1.attn.c_attn.weight"))
    refused(folder, r"'holey' lack 1 tensors .*transformer\.h\.1\.attn\.c_attn\.weight")


def test_a_tensor_of_another_size_is_named_with_both_sizes(tmp_path):
    folder = save_folder(tmp_path / "odd", tiny_gpt2())
    name = "transformer.h.1.attn.c_attn.weight"
    rewrite(folder, lambda tensors: tensors.update({name: tensors[name][:, :12].contiguous()}))
    refused(folder, rf"{name} is stored with shape \(32, 12\), and the model's is \(32, 96\)")


def test_pickled_weights_are_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    folder = save_folder(tmp_path / "old")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    refused(folder, r"pickle files, which are refused.*convert them to safetensors")
    assert not (tmp_path / "sprung").exists()


def test_a_folder_that_is_no_model_says_what_it_lacks(tmp_path):
    refused(tmp_path, r"has no config\.json")
    folder = save_folder(tmp_path / "x")
    (folder / "model.safetensors").unlink()
    refused(folder, r"has no weights \(model\.safetensors or")
    (folder / "small.gguf").touch()
    refused(folder, r"give the path .*small\.gguf")


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "{}", '{"model_type": "no-such-type"}', "\xff"])
def test_an_unreadable_configuration_is_refused(tmp_path, text):
    folder = save_folder(tmp_path / "x")
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused(folder, r"cannot be read \(")


def test_sizes_that_are_no_numbers_are_refused(tmp_path):
    folder = save_folder(tmp_path / "x")
    edit_config(folder, hidden_size="wide")
    refused(folder, r"of 'x' cannot be (read|loaded) \(.*hidden_size")


def test_encoders_and_encoder_decoders_are_refused(tmp_path):
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=16))
    refused(
        save_folder(tmp_path / "bert", bert),
        r"'bert' \(BertModel\) is not a causal language model",
    )
    t5 = transformers.T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    network = transformers.T5ForConditionalGeneration(t5)
    refused(save_folder(tmp_path / "t5", network), r"'t5' \(T5For\w+\) is an encoder-decoder")
    vit = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    refused(
        save_folder(tmp_path / "vit", transformers.ViTModel(vit)),
        r"'vit' \(ViTModel\) is not a causal language model",
    )


def test_a_decoder_that_transformers_does_not_mark_as_one_loads(tmp_path):
    config = transformers.GPTNeoXConfig(
        vocab_size=97,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    folder = save_folder(tmp_path, transformers.GPTNeoXForCausalLM(config))
    assert Checkpoint("x", folder).network(torch.float32, "eager").config.model_type == "gpt_neox"


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
open({trace!r}, "w").close()
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_beside_the_weights_runs_only_when_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    folder = save_folder(tmp_path / "own")
    trace = tmp_path / "ran"
    (folder / "own_code.py").write_text(CODE.format(trace=str(trace)))
    classes = {"AutoConfig": "own_code.OwnConfig", "AutoModelForCausalLM": "own_code.OwnModel"}
    edit_config(folder, model_type="own", auto_map=classes)
    refused(folder, r"trust_remote_code=True .*runs the repository's code")
    assert not trace.exists()
    trusted = Checkpoint("own", folder, trust_remote_code=True)
    assert type(trusted.network(torch.float32, "eager")).__name__ == "OwnModel"
    assert trace.exists()


def test_a_broken_tokenizer_is_not_taken_for_none(tmp_path):
    folder = save_folder(tmp_path / "x")
    (folder / "tokenizer.json").write_text("{")
    refused(folder, r"the tokenizer of 'x' cannot be read .*tokenizer=")


def test_16_bit_matrices_beside_float32_norms_are_narrow(tmp_path):
    network = tiny_llama().bfloat16()
    network.model.norm.float()
    folder = save_folder(tmp_path / "a", network)
    assert Checkpoint("x", folder).narrow
    assert not Checkpoint("x", save_folder(tmp_path / "b")).narrow
    assert Checkpoint("x", tmp_path / "b", was_quantized=True).narrow


@pytest.fixture(scope="module")
def llama():
    return tiny_llama(intermediate_size=64)  # Q8_0 packs blocks of 32


def test_a_converted_gguf_file_is_the_same_model(llama, tmp_path, monkeypatch):
    monkeypatch.setenv("INACTIVE_HEADS_CACHE", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "small.gguf", llama, Q8)
    direct = Checkpoint("x", tmp_path, gguf=file.name)
    folder = demo.converted_folder(file, "x")
    converted = Checkpoint("x", folder)
    one = direct.network(torch.float32, "eager").state_dict()
    two = converted.network(torch.float32, "eager").state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    text = "abcd f ab"
    assert converted.tokenizer()(text).input_ids == direct.tokenizer()(text).input_ids
    assert converted.tokenizer().get_vocab() == direct.tokenizer().get_vocab()

    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert demo.converted_folder(file, "x") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes() + b"\0")
    assert demo.converted_folder(file, "x") != folder


def test_two_conversions_at_once_leave_one_whole_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("INACTIVE_HEADS_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "small.gguf"
    file.write_bytes(b"anything")
    both_are_at_it = threading.Barrier(2)

    def convert(checkpoint, folder):
        (folder / "config.json").write_text("{}")
        both_are_at_it.wait(timeout=60)

    monkeypatch.setattr(demo, "_convert", convert)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(demo.converted_folder(file, "x")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert [path.name for path in found[0].parent.iterdir()] == [found[0].name]
    assert (found[0] / "config.json").read_text() == "{}"


def test_a_failed_conversion_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("INACTIVE_HEADS_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF rubbish")
    with pytest.raises(UserError):
        demo.converted_folder(file, "x")
    assert list((tmp_path / "cache" / "converted").iterdir()) == []


def test_without_a_cache_folder_the_demo_model_is_read_directly(llama, tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "small.gguf", llama)
    (tmp_path / "file").touch()
    monkeypatch.setenv("INACTIVE_HEADS_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(demo, "demo_file", lambda: file)
    with pytest.warns(UserWarning, match="cannot be written to .*set INACTIVE_HEADS_CACHE"):
        model = load_model()
    assert model.name == "SmolLM2-135M-Instruct"
    assert model.encode("abcdf") == [15, 8]


def test_a_damaged_conversion_says_what_to_delete(llama, tmp_path, monkeypatch):
    monkeypatch.setenv("INACTIVE_HEADS_CACHE", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "small.gguf", llama)
    monkeypatch.setattr(demo, "demo_file", lambda: file)
    folder = demo.demo_folder()
    (folder / "model.safetensors").write_bytes(b"short")
    refused(None, f"delete the folder {folder}")


def test_prepare_prints_the_folder_or_says_why_not(llama, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INACTIVE_HEADS_CACHE", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "small.gguf", llama)
    monkeypatch.setattr(demo, "demo_file", lambda: file)
    assert demo.main() == 0
    assert capsys.readouterr().out.strip() == str(demo.demo_folder())
    monkeypatch.setattr(demo, "demo_file", lambda: tmp_path / "none.gguf")
    assert demo.main() == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_chat_template_survives(tmp_path):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    read = Checkpoint("x", save_folder(tmp_path, tokenizer=tokenizer)).tokenizer()
    said = [{"role": "user", "content": "the cat"}]
    assert read.apply_chat_template(said, tokenize=False) == "the cat"
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"


def test_packed_weights_are_unpacked(tmp_path, monkeypatch):
    """What bitsandbytes leaves is integers: read as numbers they would be wrong ones."""
    packing = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    whole = tiny_llama()
    packed = tiny_llama()
    projection = packed.model.layers[0].self_attn.o_proj
    projection.weight = torch.nn.Parameter(projection.weight.to(torch.int8), requires_grad=False)
    packed.dequantize = whole.bfloat16
    report = {"missing_keys": [], "mismatched_keys": []}
    folder = save_folder(tmp_path / "q")
    edit_config(folder, quantization_config=packing)
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: (packed, report)
    )
    model = load_model(folder, dtype="float32")
    assert model.engine.network is whole
    assert model.engine.dtype == torch.float32
    assert model.provenance["unpacked_from"] == "bitsandbytes"
    packed.dequantize = lambda: getattr(torch, "no_such_function")  # noqa: B009
    refused(folder, r"'q' cannot be loaded .*quantized by bitsandbytes: .* unquantized form or a")


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.filterwarnings("ignore")
def test_a_bitsandbytes_checkpoint_is_unpacked(tmp_path, bits):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    network = tiny_llama(hidden_size=64, intermediate_size=128)
    source = save_folder(tmp_path / "source", network)
    config = transformers.BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    reader = transformers.AutoModelForCausalLM.from_pretrained
    packed = reader(source, quantization_config=config, device_map="cpu")
    packed.save_pretrained(tmp_path / "packed")
    model = load_model(tmp_path / "packed", dtype="float32")
    read = model.engine.network.state_dict()
    assert model.provenance["unpacked_from"] == "bitsandbytes"
    for name, exact in network.state_dict().items():
        error = (read[name] - exact).norm() / exact.norm()
        assert error < {4: 0.15, 8: 0.02}[bits], name


def test_a_quantization_that_is_not_installed_says_so(tmp_path):
    folder = save_folder(tmp_path / "q")
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    refused(folder, r"'q' cannot be loaded \(.*; they are quantized by gptq: install what it needs")
