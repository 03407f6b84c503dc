"""Derivation: the recovered map of B in terms of A. Not evidence of descent, but its shape."""
