"""Tasks, which ablations are evaluated on, and texts, which heads are scored on."""
