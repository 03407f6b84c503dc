"""What is done with one pair of models, stage by stage."""
