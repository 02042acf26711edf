"""The ablation that a command's options describe."""

import pytest

import inactive_heads as ih
from inactive_heads.ablation.choose_ablation import choose_ablation
from inactive_heads.specs import AblationSpec


def test_each_way_gives_its_ablation(tmp_path):
    path = str(tmp_path / "heads.json")
    ih.Fixed([(2, 1), (0, 3)], about={"score": "AHON"}).save(path)
    assert choose_ablation(AblationSpec()) is None
    by_score = choose_ablation(AblationSpec(score="AHON (LN)", threshold=0.0))
    assert by_score == ih.PerInput("AHON (LN)", 0.0)
    fixed = choose_ablation(AblationSpec(heads=path))
    assert isinstance(fixed, ih.Fixed)
    assert (fixed.heads, fixed.about) == ([(0, 3), (2, 1)], {"score": "AHON"})
    assert choose_ablation(AblationSpec(random=25.0, seed=3)) == ih.Random(0.25, seed=3)
    assert choose_ablation(AblationSpec(random=0.0)) == ih.Random(0.0, seed=0)
    placebo = choose_ablation(AblationSpec("AHON (LN)", 0.0, placebo=True, seed=3))
    assert placebo == ih.Placebo(ih.PerInput("AHON (LN)", 0.0), seed=3)
    assert choose_ablation(AblationSpec(heads=path, placebo=True)).of.heads == fixed.heads


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"score": "AHON", "threshold": 1.0, "random": 5.0}, "one of score, heads and random"),
        ({"heads": "x.json", "random": 5.0}, "one of score, heads and random"),
        ({"score": "AHON", "threshold": 1.0, "heads": "x.json"}, "one of score, heads and random"),
        ({"score": "AHON"}, "score and threshold go together"),
        ({"threshold": 1.0}, "score and threshold go together"),
        ({"score": "AHOM", "threshold": 1.0}, "unknown score 'AHOM'"),
        ({"random": -1.0}, r"from 0 to 1"),
        ({"heads": "no-such.json"}, "no-such.json"),
        ({"placebo": True}, "follows other heads"),
        ({"random": 5.0, "placebo": True}, "follows other heads"),
    ],
)
def test_what_does_not_go_together_is_refused(given, message):
    with pytest.raises(ih.UserError, match=message):
        choose_ablation(AblationSpec(**given))
