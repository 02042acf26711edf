"""What scores.md says of its code's results and of the quiz; runs after it, in its namespace."""

from collections import Counter

import numpy as np
import pytest

assert ih.Fixed.load("heads.json").about == {"note": "an example"}
below = scores.sel(score="AHON (LN)") < threshold
assert 0 < float(below.mean()) <= 0.2
assert run.zeroed.any()
chosen = ih.select_heads(scores, "AHON (LN)", 20)
for zeroed in again.zeroed:
    np.testing.assert_array_equal(zeroed, chosen)
quiz = ih.load_task("quiz")
subjects = Counter(item.subject for item in quiz.items)
assert (len(quiz.items), len(subjects)) == (290, 10)
for shots in (0, 5):  # five examples each
    assert ih.load_task("quiz", num_fewshot=shots).num_fewshot == shots
with pytest.raises(ih.UserError, match="has 5 examples"):
    ih.load_task("quiz", num_fewshot=6)
