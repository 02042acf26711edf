"""What own_data.md says of its code's results; runs after it, in its namespace."""

assert list(texts) == stories
assert kinds == ["explanation", "story", "dialogue", "news", "instructions", "code"]
assert {len(tokens) for tokens in cut} == {64}
assert scores.sizes == {"score": 2, "sample": 2, "layer": 30, "head": 9}
assert curves["task"].unique().tolist() == ["my-stories"]
assert bool(curves[["loss_low", "loss_high"]].isna().all(axis=None))  # two stories
start = "The following are questions (with answers) about animals.\n\n"
shot = "Question: Which of these animals flies?\nAnswer: a bird\n\n"
assert (
    str(quiz.items[0].context) == f"{start}{shot}Question: Which of these animals purrs?\nAnswer:"
)
assert [item.answer for item in quiz.items] == [2, 0, 3]  # the split dev is not asked
answered = ih.evaluate(model, quiz).summary()
assert answered["n"] == 3
assert min(abs(answered["accuracy"] - 100 * right / 3) for right in range(4)) < 1e-9
assert answered["ci_low"] != answered["ci_low"]  # NaN: three questions
assert ih.evaluate(model, sums, ih.Random(0.1, seed=0)).items["id"].tolist() == [
    "sum-0",
    "sum-1",
    "sum-2",
]
