"""Layers: residuals, norms, feed-forward networks, sharing."""
