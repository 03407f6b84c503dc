"""One file a method: homolog itself, the published ones from their papers' formulas, and installed programs called as they are."""
