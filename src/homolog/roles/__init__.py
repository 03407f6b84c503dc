"""Roles: what each tensor of a checkpoint is, and which of its axes are exchangeable."""
