"""Towers made of columns: what features of users and items become vectors, and how."""

from tfrs_negatives.towers.categorical import Categorical
from tfrs_negatives.towers.date import Date
from tfrs_negatives.towers.feature import Feature
from tfrs_negatives.towers.features_for import features_for
from tfrs_negatives.towers.history import History
from tfrs_negatives.towers.id_feature import Id
from tfrs_negatives.towers.numeric import Numeric
from tfrs_negatives.towers.text import Text
from tfrs_negatives.towers.tower import Tower

__all__ = [
    "Categorical",
    "Date",
    "Feature",
    "History",
    "Id",
    "Numeric",
    "Text",
    "Tower",
    "features_for",
]
