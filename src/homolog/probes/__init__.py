"""Probes: each asks one question about a pair of models and answers with a finding."""
