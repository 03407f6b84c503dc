"""Checkpoints: names, shapes, dtypes and ranged reads, whatever the file format."""
