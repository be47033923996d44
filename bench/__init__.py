"""Side-by-side speed measurements of qkv and its peers. Run as ``python -m bench``."""
