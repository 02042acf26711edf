"""What the tests of commands share."""

import json

import pytest
import transformers
from helpers.command import TEXTS
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with a word tokenizer, with texts and questions beside it."""
    place = tmp_path_factory.mktemp("model")
    sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
    words = [*WORDS, *"ABCD"]
    network = tiny(transformers.GPT2Config(vocab_size=len(words), **sizes))
    tokenizer = word_tokenizer(words=words)
    save_folder(place / "tiny", network, tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + '\\nsat\\n' }}{% endfor %}"
    save_folder(place / "chat", network, tokenizer)
    lines = [json.dumps({"text": text}) for text in TEXTS]
    (place / "texts.jsonl").write_text("\n".join(lines))
    rows = [
        {
            "id": f"<i>{n}</i>",
            "subject": "<b>cats</b>",
            "split": "test",
            "question": f"<script>alert(2)</script> the cat {n}",
            "choices": ["sat", "ran", "on", "mat"],
            "answer": n % 4,
        }
        for n in range(6)
    ]
    (place / "quiz.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place
