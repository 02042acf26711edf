"""Where tests find what is not part of a test: the project, its data, a browser."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
"""Data that are never committed; tests that need them skip where they are missing."""

CLAIMS = ROOT / "tests" / "claims"
"""What pages and notebooks say of their code's results: assertions that run after that code."""

CHROMIUM = Path("/usr/bin/chromium")
