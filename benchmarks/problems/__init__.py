"""Retrieval problems on public data: rows to train on, towers, and test queries."""
