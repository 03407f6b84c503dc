"""The adversary's bench: what it costs to get a copy past homolog."""
