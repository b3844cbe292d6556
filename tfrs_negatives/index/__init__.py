"""Indexes over candidate embeddings, their export for serving, and mining from them.

Names load when first used: `LiveIndex` needs no TensorFlow, which the others import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfrs_negatives._saved_retrieval import load_retrieval
    from tfrs_negatives.index.brute_force import BruteForce
    from tfrs_negatives.index.live import LiveAnswer, LiveIndex
    from tfrs_negatives.index.live_retrieval_export import export_live_retrieval
    from tfrs_negatives.index.mining.mine_hard_negatives import mine_hard_negatives
    from tfrs_negatives.index.mining.ranked_pairs import RankedPairs
    from tfrs_negatives.index.query_tower_export import (
        export_query_tower,
        shard_query,
    )
    from tfrs_negatives.index.retrieval_export import export_retrieval
    from tfrs_negatives.index.scann import ScaNN
    from tfrs_negatives.index.settings_report import quality_report

__all__ = [
    "BruteForce",
    "LiveAnswer",
    "LiveIndex",
    "RankedPairs",
    "ScaNN",
    "export_live_retrieval",
    "export_query_tower",
    "export_retrieval",
    "load_retrieval",
    "mine_hard_negatives",
    "quality_report",
    "shard_query",
]

# Where they are. No module may have the name of what it holds: imported by itself, it
# would stand in the place of that.
_MODULES = {
    "BruteForce": "index.brute_force",
    "LiveAnswer": "index.live",
    "LiveIndex": "index.live",
    "RankedPairs": "index.mining",
    "ScaNN": "index.scann",
    "export_live_retrieval": "index.live_retrieval_export",
    "export_query_tower": "index.query_tower_export",
    "export_retrieval": "index.retrieval_export",
    "load_retrieval": "_saved_retrieval",
    "mine_hard_negatives": "index.mining",
    "quality_report": "index.settings_report",
    "shard_query": "index.query_tower_export",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    package = __name__.partition(".")[0]
    return getattr(importlib.import_module(f"{package}.{_MODULES[name]}"), name)
