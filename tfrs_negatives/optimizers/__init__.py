"""Optimizers for large embedding tables, when a batch uses only a few rows."""

from tfrs_negatives.optimizers.lazy_adam import LazyAdam

__all__ = ["LazyAdam"]
