"""Models whose loss is written by the user."""

from tfrs_negatives.models.model import Model

__all__ = ["Model"]
