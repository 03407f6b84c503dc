"""What independent models measure against each other: the null distributions of everything that has no exact p."""
