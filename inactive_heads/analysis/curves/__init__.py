"""Curves of accuracy or loss: tables, areas, rankings and how sure they are."""
