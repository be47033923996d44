"""Checkpoints of others, in and out."""
