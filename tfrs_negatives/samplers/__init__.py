"""Samplers: negatives from beyond the batch, each drawn with a known log q."""

from tfrs_negatives.samplers.catalogue import Catalogue
from tfrs_negatives.samplers.cluster_strata import cluster_strata
from tfrs_negatives.samplers.mined import Mined
from tfrs_negatives.samplers.mixture import Mixture
from tfrs_negatives.samplers.popularity import Popularity
from tfrs_negatives.samplers.stratified import Stratified
from tfrs_negatives.samplers.uniform import Uniform

__all__ = [
    "Catalogue",
    "Mined",
    "Mixture",
    "Popularity",
    "Stratified",
    "Uniform",
    "cluster_strata",
]
