"""What encoders and decoders are pretrained on, and what each objective can and cannot teach."""
