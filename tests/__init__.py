"""The tests mirror src/qkv."""
