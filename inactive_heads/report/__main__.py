"""Runs the report command as ``python -m inactive_heads.report``."""

from inactive_heads.cli.report import run_report

if __name__ == "__main__":
    run_report()
