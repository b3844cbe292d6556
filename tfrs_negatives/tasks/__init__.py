"""Tasks: the stages from embeddings to a loss and its metrics, wired together."""

from tfrs_negatives.tasks.retrieval import Retrieval

__all__ = ["Retrieval"]
