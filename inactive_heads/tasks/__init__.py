"""What to judge an ablation by, and what to score heads on."""
