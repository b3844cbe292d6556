"""Training and sampling on tables larger than memory."""
