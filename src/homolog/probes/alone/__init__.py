"""One checkpoint against itself: blocks that began as one, and a residual stream without a basis of its own."""
