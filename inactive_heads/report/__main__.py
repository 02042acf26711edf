"""``python -m inactive_heads.report``: the report command alone."""

from inactive_heads.cli.report import run_report

if __name__ == "__main__":
    run_report()
