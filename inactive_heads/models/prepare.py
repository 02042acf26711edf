"""``python -m inactive_heads.models.prepare``: makes the bundled demo model ready and prints its folder."""

from __future__ import annotations

import sys

from inactive_heads.errors import UserError
from inactive_heads.models.bundled import demo_folder


def main() -> int:
    """0 when the demo model is ready, 2 when it cannot be made so; the reason is printed."""
    try:
        print(demo_folder())
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
