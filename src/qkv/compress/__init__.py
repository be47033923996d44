"""Rewrites of leaf modules: the model whose parts they replace knows nothing of them."""
