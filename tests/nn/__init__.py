"""What a Transformer is made of, tested part by part."""
