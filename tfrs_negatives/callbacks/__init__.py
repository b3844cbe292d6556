"""Callbacks: evaluation in the corpus, and negatives that follow the model."""

from tfrs_negatives.callbacks.evaluate_corpus import EvaluateCorpus
from tfrs_negatives.callbacks.negatives_curriculum import NegativesCurriculum
from tfrs_negatives.callbacks.refresh_negatives import RefreshNegatives

__all__ = ["EvaluateCorpus", "NegativesCurriculum", "RefreshNegatives"]
