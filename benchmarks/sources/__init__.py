"""Where negatives come from, at equal steps."""
