"""Weights kept in few bits: each format's stored tensors are offered as the one matrix that they stand for, decoded row by row."""
