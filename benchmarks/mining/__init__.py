"""Hard negatives: how many are false, and what mining costs."""
