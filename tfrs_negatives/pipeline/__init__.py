"""The steps before training on an engine of many machines, Apache Beam.

Steps need the extra `beam` when they run, and pyarrow; what reads their output needs
pyarrow alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tfrs_negatives.pipeline.embedding_shards import read_embeddings
from tfrs_negatives.pipeline.read_counts import read_counts
from tfrs_negatives.pipeline.read_negatives import read_negatives

if TYPE_CHECKING:
    from tfrs_negatives.pipeline.audit_statistics import audit_table
    from tfrs_negatives.pipeline.beam_engine import BeamEngine
    from tfrs_negatives.pipeline.column_counts import count_column
    from tfrs_negatives.pipeline.corpus_embeddings import embed_rows
    from tfrs_negatives.pipeline.held_out_recall import corpus_recall
    from tfrs_negatives.pipeline.last_rows import split_by_time
    from tfrs_negatives.pipeline.mined_negatives import mine_negatives
    from tfrs_negatives.pipeline.request_order import order_by_request

__all__ = [
    "BeamEngine",
    "audit_table",
    "corpus_recall",
    "count_column",
    "embed_rows",
    "mine_negatives",
    "order_by_request",
    "read_counts",
    "read_embeddings",
    "read_negatives",
    "split_by_time",
]

# What needs the extra, and where it is: imported when it is used.
_WITH_EXTRA = {
    "BeamEngine": "beam_engine",
    "audit_table": "audit_statistics",
    "corpus_recall": "held_out_recall",
    "count_column": "column_counts",
    "embed_rows": "corpus_embeddings",
    "mine_negatives": "mined_negatives",
    "order_by_request": "request_order",
    "split_by_time": "last_rows",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_EXTRA:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_WITH_EXTRA[name]}")
    except ImportError as error:
        raise ImportError(
            f"`pipeline.{name}` needs packages that cannot be imported ({error}). Run "
            "`pip install tfrs_negatives[beam]`."
        ) from error
    return getattr(module, name)
