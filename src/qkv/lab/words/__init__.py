"""Words, tokens, sentences and what is added to them later."""
