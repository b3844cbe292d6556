"""From a table of interactions to a trained, measured and exported recommender."""

from tfrs_negatives.recommender.recommender import Recommender

__all__ = ["Recommender"]
