"""One lineage at the scale of real language models: SmolLM2-135M, and what it becomes by training on."""
