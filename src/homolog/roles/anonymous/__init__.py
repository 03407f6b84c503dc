"""Checkpoints whose names say nothing: roles from shapes, counts and values, checked against each other."""
