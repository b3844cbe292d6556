"""Teachers: what is likely for a user, as soft targets that a model learns from."""

from tfrs_negatives.teachers.blended import blend
from tfrs_negatives.teachers.ease import EASE
from tfrs_negatives.teachers.histories import Histories
from tfrs_negatives.teachers.item_neighbours import ItemNeighbours
from tfrs_negatives.teachers.suggestions import Suggestions

__all__ = ["EASE", "Histories", "ItemNeighbours", "Suggestions", "blend"]
