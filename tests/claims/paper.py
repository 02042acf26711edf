"""What paper.md says of its code's results, by hand; runs after it, in its namespace."""

rows = ranking.set_index("score")
# 60 - slope · percent, from 0 to 30%: its mean is that at 15%; it falls by a point at 1 / slope.
for name, slope in [("AWFT", 0.5), ("AHON (LN)", 0.1)]:
    assert abs(rows.loc[name, "normalized_auc"] - (60 - 15 * slope)) < 1e-9
    assert abs(rows.loc[name, "percent_within_1pt"] - 1 / slope) < 1e-9
assert rows["rank"].to_dict() == {"AHON (LN)": 1, "AWFT": 2}
compared = ih.compare_models(ranking).iloc[0]
assert compared["best_score"] == compared["top_score"] == "AHON (LN)"
assert abs(compared["reference"] - 2) < 1e-9
assert abs(compared["best"] - 10) < 1e-9
assert abs(compared["gain"] - 8) < 1e-9
counts = ih.count_ranks(ranking).set_index("score")
assert counts["first"].to_dict() == {"AHON (LN)": 1, "AWFT": 0}
