"""What scaling.md says of its code's results; runs after it, in its namespace."""

assert len(answers) == 4
row = curves[(curves["score"] == "AHON (LN)") & (curves["percent"] == 10)].iloc[0]
assert abs(row["accuracy"] - 100 * answers["correct"].mean()) < 1e-9
assert abs(float(sure["first"].sum()) - 1) < 1e-9
