"""qkv: the Transformer, built and proven. Importing the package is cheap: torch comes with the part that needs it."""

__version__ = "0.1.0"
