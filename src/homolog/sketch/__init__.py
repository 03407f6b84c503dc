"""Sketches: what is kept of a model for comparing it, a few megabytes whatever its size."""
