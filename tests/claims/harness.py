"""What harness.md says of its code's results; runs after it, in its namespace."""

assert len(written.tokens[0]) <= 8
assert 0 < written.percent_zeroed < 50
