"""Order, distance and length."""
