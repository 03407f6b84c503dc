"""Every method over pairs whose ancestry is known: who is right, who accuses the innocent, and who is fooled by what."""
