"""Callbacks: negatives that follow the model while it trains."""

from tfrs_negatives.callbacks.negatives_curriculum import NegativesCurriculum
from tfrs_negatives.callbacks.refresh_negatives import RefreshNegatives

__all__ = ["NegativesCurriculum", "RefreshNegatives"]
