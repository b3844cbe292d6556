"""Interaction data: tables of who took what, when, and in which request."""

from tfrs_negatives.data.count_ids import count_ids
from tfrs_negatives.data.features_of import KeyedFeatures, features_of
from tfrs_negatives.data.group_by_request import group_by_request
from tfrs_negatives.data.histories_of import UserHistories, histories_of
from tfrs_negatives.data.interactions import Interactions, interactions
from tfrs_negatives.data.positives_of import Positives, positives_of
from tfrs_negatives.data.request_counts import RequestCounts
from tfrs_negatives.data.spread_requests import spread_requests
from tfrs_negatives.data.stream_interactions import stream_interactions

__all__ = [
    "Interactions",
    "KeyedFeatures",
    "Positives",
    "RequestCounts",
    "UserHistories",
    "count_ids",
    "features_of",
    "group_by_request",
    "histories_of",
    "interactions",
    "positives_of",
    "spread_requests",
    "stream_interactions",
]
