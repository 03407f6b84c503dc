"""The version, in a module of its own so that no stage needs the package root."""

__version__ = "0.1.0"
