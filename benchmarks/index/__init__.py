"""Indexes: recall, speed and what ours add to ScaNN."""
