"""Masks, the two halves of an encoder-decoder, and the decoder's inputs."""
