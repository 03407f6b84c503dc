"""homolog reads the weights of language models and says whether one descends from another."""

__version__ = "0.1.0"
