"""Indexes over candidate embeddings, and their export for serving."""

from tfrs_negatives.index.brute_force import BruteForce
from tfrs_negatives.index.export import export_retrieval
from tfrs_negatives.index.scann import ScaNN

__all__ = ["BruteForce", "ScaNN", "export_retrieval"]
