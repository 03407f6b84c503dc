"""Published weights to try homolog on: which, from where, and how they get onto this machine."""
