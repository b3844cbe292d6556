"""Indexes over candidate embeddings, their export for serving, and mining from them."""

from tfrs_negatives._saved_retrieval import load_retrieval
from tfrs_negatives.index.brute_force import BruteForce
from tfrs_negatives.index.export_retrieval import export_retrieval
from tfrs_negatives.index.mining import RankedPairs, mine_hard_negatives
from tfrs_negatives.index.quality_report import quality_report
from tfrs_negatives.index.scann import ScaNN

__all__ = [
    "BruteForce",
    "RankedPairs",
    "ScaNN",
    "export_retrieval",
    "load_retrieval",
    "mine_hard_negatives",
    "quality_report",
]
