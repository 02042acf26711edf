"""Tokens of the harness's requests: where its own model and ours are the same, and where not."""

import pytest
import torch
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny_llama
from tokenizers import processors

import inactive_heads as ih
from inactive_heads.errors import Notice, UserError

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from inactive_heads.evaluation.lm_eval_model import HarnessModel

BOS, EOS = 0, 1
TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def folder_with(folder, template, chat=None):
    tokenizer = word_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    tokenizer.chat_template = chat
    return save_folder(folder, tiny_llama(), tokenizer)


def both(folder):
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32"), HarnessModel(folder)


def asked(lm, pairs):
    requests = [Instance("loglikelihood", {}, pair, 0, ("t", 0, 1)) for pair in pairs]
    return [answer for answer, _ in lm.loglikelihood(requests, disable_tqdm=True)]


PAIRS = [("the cat", " sat"), ("the cat", " ran far"), ("a dog </s>", " on")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("template", ["$A", "<s> $A"])
def test_without_tokens_at_the_end_both_are_one(tmp_path, template):
    theirs, ours = both(folder_with(tmp_path / "m", template))
    for text in ("the cat sat", "the </s>", "<s> the cat", "a "):
        assert ours.tok_encode(text) == theirs.tok_encode(text)
    assert asked(ours, PAIRS) == pytest.approx(asked(theirs, PAIRS), abs=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("template", ["$A </s>", "<s> $A </s>", "$A </s> </s>"])
def test_the_harness_keeps_eos_and_we_do_not(tmp_path, template):
    folder = folder_with(tmp_path / "m", template)
    theirs, ours = both(folder)
    before, after = ([BOS] if "<s>" in template else []), [EOS] * template.count("</s>")
    assert theirs.tok_encode("the cat") == [*before, 3, 4, *after]
    assert ours.tok_encode("the cat") == [*before, 3, 4]
    assert theirs._encode_pair("the cat", " sat") == (
        [*before, 3, 4, *after],
        [5, *after][len(after) :],
    )
    assert ours._encode_pair("the cat", " sat") == ([*before, 3, 4], [5])
    assert ours.tok_encode("the cat", add_special_tokens=False) == [3, 4]
    # Ours are the log-probabilities of the answers after the prompts, by the network itself.
    expected = []
    for context, continuation in PAIRS:
        prompt, answer = ours._encode_pair(context, continuation)
        with torch.no_grad():
            logits = theirs.model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        ends = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        expected.append(sum(float(logits[at, t]) for at, t in zip(ends, answer, strict=True)))
    assert asked(ours, PAIRS) == pytest.approx(expected, abs=1e-4)
    assert asked(theirs, PAIRS) != pytest.approx(expected, abs=1e-2)


def test_loading_says_what_is_left_out(tmp_path):
    folder = folder_with(tmp_path / "m", "$A </s>")
    with pytest.warns(Notice, match=r"the tokenizer of 'm' puts </s> after a text"):
        lm = HarnessModel(folder)
    recorded = lm.get_model_info()["inactive_heads"]["bos"]
    assert recorded == "auto; </s> after a text left out"


HISTORY = [
    {"role": "system", "content": "About cats."},
    {"role": "user", "content": "the cat"},
]


def test_conversations_are_checked_as_our_own_prompts_are(tmp_path):
    lm = HarnessModel(folder_with(tmp_path / "m", "$A", TURNS))
    written = "<system>About cats.</><user>the cat</><assistant>"
    assert lm.apply_chat_template(HISTORY) == written
    begun = [*HISTORY, {"role": "assistant", "content": "It"}]
    assert lm.apply_chat_template(begun, add_generation_prompt=False) == written + "It"
    lossy = TURNS.replace("in messages", "in messages[-1:]")
    lm = HarnessModel(folder_with(tmp_path / "lossy", "$A", lossy))
    with pytest.raises(UserError, match=r"leaves out or alters the description"):
        lm.apply_chat_template(HISTORY)
    lm = HarnessModel(folder_with(tmp_path / "none", "$A"))
    with pytest.raises(UserError, match=r"'none' comes without a chat template"):
        lm.apply_chat_template(HISTORY)


def test_the_template_that_the_harness_names_is_the_one_used(tmp_path):
    several = {"default": TURNS, "rag": TURNS.replace("<", "[")}
    lm = HarnessModel(folder_with(tmp_path / "m", "$A", several))
    assert lm.chat_template(False) is None
    assert lm.chat_template(True) == TURNS
    assert lm.apply_chat_template(HISTORY).startswith("<system>")
    assert lm.chat_template("rag") == several["rag"]
    assert lm.apply_chat_template(HISTORY).startswith("[system>")
    with pytest.raises(UserError, match=r"chat templates default, rag, and no 'tool_use'"):
        lm.chat_template("tool_use")


def test_our_tasks_read_the_same_tokens(tmp_path):
    folder = folder_with(tmp_path / "m", "<s> $A </s>")
    with pytest.warns(Notice):
        model, lm = ih.load_model(folder), HarnessModel(folder)
    item = ih.ChoiceItem("q", "s", "the cat", (" sat", " ran far"), 0)
    (inputs,) = ih.ChoiceTask("t", [item], "acc", 0).inputs(model)
    for one, continuation in zip(inputs, item.continuations, strict=True):
        prompt, answer = lm.pair_of("the cat", continuation)
        assert one.tokens == [*prompt, *answer[:-1]]
        assert one.targets == answer
    assert WORDS[inputs[0].targets[0]] == "sat"
