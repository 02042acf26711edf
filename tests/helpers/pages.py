"""Made-up results of a model with a hostile name, and what is in the page made of them."""

import json
import re

import numpy as np
import pandas as pd
import xarray as xr

HOSTILE = "<script>alert(1)</script>"
FAMILIES = ["AWFT", "AEQD", "FTVVN", "AVVN", "AHON", "LTHON", "AHRN"]
NAMES = [f"{name}{kind}" for name in FAMILIES for kind in ("", " (LN)")]
NAMES.insert(NAMES.index("LTHON (LN)") + 1, "LTHON (HN)")
PERCENTS = [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]


def make_scores(layers: int = 30, heads: int = 9, samples: int = 10) -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.gamma(3.0, 1.0, (len(NAMES), samples, layers, heads)).astype("float32")
    values *= np.linspace(0.5, 2, layers, dtype="float32")[:, None]
    # Some heads are like that on every input, as in real models.
    values *= rng.uniform(0.2, 1.5, (len(NAMES), 1, layers, heads)).astype("float32")
    sides = ["above" if name.startswith("AWFT") else "below" for name in NAMES]
    coords = {"score": NAMES, "inactive": ("score", sides), "layer": np.arange(layers)}
    coords |= {"head": np.arange(heads), "sample": np.arange(samples)}
    dims = ("score", "sample", "layer", "head")
    return xr.DataArray(values, dims=dims, coords=coords, attrs={"model": HOSTILE})


def make_thresholds(scores: xr.DataArray) -> xr.DataArray:
    cuts = []
    for i, side in enumerate(scores["inactive"].to_numpy()):
        shares = np.array(PERCENTS) / 100
        shares = 1 - shares if side == "above" else shares
        cuts.append(np.quantile(scores.to_numpy()[i], shares, method="interpolated_inverted_cdf"))
    return xr.DataArray(
        np.array(cuts),
        dims=("score", "percent"),
        coords={"score": scores["score"].to_numpy(), "percent": PERCENTS},
    )


def make_curves(model: str = HOSTILE) -> pd.DataFrame:
    rng, rows = np.random.default_rng(1), []
    for task in ("quiz <b>bold</b>", "text-loss"):
        for i, score in enumerate([*NAMES, "Random"]):
            slope = 0.2 + 0.06 * i
            for percent in PERCENTS:
                row = {"model": model, "task": task, "mode": "per-input", "score": score}
                zeroed = percent * 1.03
                drop = slope * zeroed**1.3 / 5 + (rng.normal(0, 0.4) if percent else 0)
                row |= {"percent": percent, "percent_zeroed": zeroed, "n": 200}
                row |= {"threshold": np.nan if score == "Random" else 0.123456789}
                if task == "text-loss":
                    loss = 3.2 + drop / 12
                    row |= {"loss": loss, "loss_low": loss - 0.05, "loss_high": loss + 0.05}
                else:
                    right = 62 - drop
                    row |= {"accuracy": right, "ci_low": right - 6.7, "ci_high": right + 6.5}
                rows.append(row)
    return pd.DataFrame(rows)


def embedded(html: str) -> dict:
    found = re.search(r'id="report-data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def text_of(html: str) -> str:
    """What stands in the page outside its scripts and style."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
