"""One adapter a peer: `build(cell, variant, folder) -> Job`."""
