"""Optimizers for embedding tables of which a batch uses a few rows."""

from tfrs_negatives.optimizers.lazy_adam import LazyAdam

__all__ = ["LazyAdam"]
