"""GGUF, the format of llama.cpp: its header, its quantised blocks, and what its converter did to the weights."""
