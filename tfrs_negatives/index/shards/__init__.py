"""Searching a corpus that is split: what a shard is, and how answers are joined."""
