"""Curves of accuracy or loss: tables, areas, rankings, and confidence intervals."""
