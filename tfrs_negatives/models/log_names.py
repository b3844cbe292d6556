"""The names under which a model logs."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from tfrs_negatives.types import KerasMetric

LOSSES = ("loss", "regularization_loss", "total_loss")


def check(metrics: Iterable[KerasMetric]) -> None:
    """Raises `ValueError` unless each metric has a name of its own in the logs.

    Args:
      metrics: Those of a model.
    """
    distinct = {id(metric): metric for metric in metrics}.values()
    counts = collections.Counter(metric.name for metric in distinct)
    shared = sorted(name for name, count in counts.items() if count > 1)
    if shared:
        raise ValueError(
            f"Metrics of a model must have distinct names, received several {shared}: "
            "logs would show one of them. Pass `name=` to each, or to the layer that "
            "names them."
        )
    taken = sorted(set(counts).intersection(LOSSES))
    if taken:
        raise ValueError(
            f"The model logs its losses as {list(LOSSES)}, received metrics named "
            f"{taken}: logs would not show them. Pass `name=`."
        )
