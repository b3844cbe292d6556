"""Models whose loss is written by the user, and the two-tower model."""

from tfrs_negatives.models.model import Model
from tfrs_negatives.models.two_tower import TwoTower

__all__ = ["Model", "TwoTower"]
