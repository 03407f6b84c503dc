"""Making a bank: comparing models that are known to be independent, pair by pair."""
