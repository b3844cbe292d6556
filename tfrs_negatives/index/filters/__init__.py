"""Filters: which items a query may find, as a text over their attributes."""

from tfrs_negatives.index.filters.checked_filter import checked_filter
from tfrs_negatives.index.filters.filter_mask import mask_of

__all__ = ["checked_filter", "mask_of"]
