"""Metrics of negatives and of their correction."""

from tfrs_negatives.metrics.log_q_error import LogQError

__all__ = ["LogQError"]
