"""Looking inside a trained model: activations recorded by module name."""
