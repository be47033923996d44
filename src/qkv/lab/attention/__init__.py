"""Scores, heads and what weights mean."""
