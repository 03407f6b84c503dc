"""Alignment: which unit, layer, token or direction of one model corresponds to which of the other."""
