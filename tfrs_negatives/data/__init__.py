"""Interaction data: tables of who took what, when, and in which request."""

from tfrs_negatives.data.counting import count_ids
from tfrs_negatives.data.interactions import Interactions, interactions

__all__ = ["Interactions", "count_ids", "interactions"]
