"""Real adapters trained and reused, held against the claims of `theory`."""
