"""Objectives, gradients and search."""
