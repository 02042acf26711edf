"""The command `inactive-heads evaluate` on a tiny model, against the same calls in Python."""

from helpers.command import run

import inactive_heads as ih


def test_evaluate_says_what_it_did(folder):
    arguments = (
        "evaluate",
        folder / "tiny",
        "--data",
        folder / "quiz.jsonl",
        "--scoring",
        "letter",
    )
    result = run(*arguments, "--score", "AHON (LN)", "--threshold", "1.0")
    assert result.exit_code == 0, result.output
    assert "num_fewshot 0, scoring letter" in result.output
    assert "% (95% interval not shown: fewer than 20 questions), " in result.output
    model, task = (
        ih.load_model(folder / "tiny"),
        ih.load_task("quiz", data=folder / "quiz.jsonl", scoring="letter"),
    )
    summary = ih.evaluate(model, task, ih.PerInput("AHON (LN)", 1.0)).summary()
    assert f"accuracy {summary['accuracy']:.1f}%" in result.output
    assert f"heads zeroed: {summary['percent_zeroed']:.2f}%" in result.output


def test_evaluate_prints_the_change_from_the_model_with_every_head(folder):
    common = ("evaluate", folder / "tiny", "--task", "text-loss", "--data", folder / "texts.jsonl")
    heads = ("--score", "AHON (LN)", "--threshold", "1.0", "--placebo", "--seed", 3)
    result = run(*common, *heads)
    assert result.exit_code == 0, result.output
    model = ih.load_model(folder / "tiny")
    task = ih.load_task("text-loss", data=folder / "texts.jsonl")
    whole = ih.evaluate(model, task)
    placebo = ih.Placebo(ih.PerInput("AHON (LN)", 1.0), seed=3)
    change = ih.evaluate(model, task, placebo, baseline=whole).effect(whole)
    assert change["change"] != 0
    shown = f"loss {whole.summary()['loss']:.4f} nats per token; change {change['change']:+.4f} ("
    assert f"with every head: {shown}paired 95% interval not shown: fewer than" in result.output
    assert f"KL {change['kl']:.4f} nats (" in result.output
    assert f"the same in {change['top1_agreement']:.1f}% (" in result.output
    for alone in ((*heads, "--no-compare"), ()):
        assert "with every head" not in run(*common, *alone).output


def test_a_chat_template_is_used_and_shown(folder):
    common = ("evaluate", folder / "chat", "--data", folder / "quiz.jsonl", "--limit", 2)
    shown = run(*common, "--scoring", "letter", "--chat-template", "on", "--show-prompt")
    assert shown.exit_code == 0, shown.output
    assert "0 shots, the model's chat template, 46 tokens" in shown.output
    assert "answer 'B': tokens [14]" in shown.output
    plain = run(*common, "--scoring", "letter", "--show-prompt")
    assert "no chat template" in plain.output
    answered = run(*common, "--scoring", "letter", "--chat-template", "on")
    assert "chat_template on" in answered.output
    assert "accuracy" in answered.output
    model = ih.load_model(folder / "chat", chat_template="on")
    task = ih.load_task("quiz", data=folder / "quiz.jsonl", scoring="letter", limit=2)
    accuracy = ih.evaluate(model, task).summary()["accuracy"]
    assert f"accuracy {accuracy:.1f}%" in answered.output
    refused = run(*("evaluate", folder / "tiny", "--chat-template", "on"))
    assert refused.exit_code == 2
    assert "'tiny' comes without a chat template" in refused.output
