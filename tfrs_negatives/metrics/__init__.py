"""Metrics of ranks in the corpus, of negatives, and of their correction."""

from tfrs_negatives.metrics.corpus_recall import CorpusRecall
from tfrs_negatives.metrics.distinct_keys import DistinctKeys
from tfrs_negatives.metrics.false_negative_rate import FalseNegativeRate
from tfrs_negatives.metrics.log_q_error import LogQError
from tfrs_negatives.metrics.mask_rate import MaskRate
from tfrs_negatives.metrics.negative_hardness import NegativeHardness
from tfrs_negatives.metrics.negative_metric import NegativeMetric
from tfrs_negatives.metrics.negative_mix import NegativeMix
from tfrs_negatives.metrics.negatives import Negatives
from tfrs_negatives.metrics.popularity_bands import PopularityBands
from tfrs_negatives.metrics.popularity_share import PopularityShare

__all__ = [
    "CorpusRecall",
    "DistinctKeys",
    "FalseNegativeRate",
    "LogQError",
    "MaskRate",
    "NegativeHardness",
    "NegativeMetric",
    "NegativeMix",
    "Negatives",
    "PopularityBands",
    "PopularityShare",
]
