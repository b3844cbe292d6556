"""What a mixture of negatives does, from the measured statistics.

The page's mixer computes the same; both read nothing but the report.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SOURCES = ("in_batch", "uniform", "hard")


def mixture(
    report: dict[str, Any],
    order: str,
    batch_size: int,
    level: str,
    shares: ArrayLike,
    skip: int = 0,
    last: int | None = None,
) -> dict[str, Any]:
    """Expected effects of mixing sources of negatives.

    A row has `batch_size - 1` negatives before masks, of which sources give `shares`.
    Masks take from in-batch columns what was measured for the order and batch size.

    Args:
      report: As `measure` returns it.
      order, batch_size, level: A measured setting, and one of `negative_pairs.LEVELS`.
      shares: Three numbers of at least 0, in-batch, uniform and hard; only their
        proportions count.
      skip, last: Hard negatives are drawn from the ranks `skip + 1` to `last`, edges of
        the measured bands; None: the last edge.

    Returns:
      Dict of "negatives" (a row's, by source, after masks), "false_negative_rate" and
      "tail_share" (of all, and by source), "gradient" (shares of the sources in the
      gradient of all negatives) and "negatives_probability" (the softmax probability of
      all negatives together, a mean over the probes). What needs a model is None
      without one, and so is what has no negatives to be measured on.
    """
    setting = next(
        s
        for s in report["settings"]
        if (s["order"], s["batch_size"]) == (order, batch_size)
    )
    proportions = np.asarray(shares, np.float64)
    proportions /= proportions.sum()
    left = setting["levels"][level]["columns_left"]["value"] / (batch_size - 1)
    counts = proportions * (batch_size - 1) * [left, 1, 1]
    sources = _sources(report, setting, level, skip, last)
    found: dict[str, Any] = {
        "negatives": dict(zip(SOURCES, counts.tolist(), strict=True))
    }
    for name in ("false_negative_rate", "tail_share"):
        values = {source: sources[source][name] for source in SOURCES}
        found[name] = {**values, "all": _mean(counts, values)}
    found["gradient"] = found["negatives_probability"] = None
    if "model" in report:
        found.update(_gradient(sources, proportions, batch_size))
    return found


def _sources(
    report: dict[str, Any],
    setting: dict[str, Any],
    level: str,
    skip: int,
    last: int | None,
) -> dict[str, dict[str, Any]]:
    """False negatives, tail items and weights of each source."""
    table, model = report["table"], report.get("model")
    which = "unknown" if level == "known_positives" else "all"
    in_batch = {
        "false_negative_rate": setting["levels"][level]["false_negative_rate"]["value"],
        "tail_share": table["popularity"]["tail_row_share"],
    }
    uniform = {
        "false_negative_rate": table["uniform_false_negative_rate"][which],
        "tail_share": table["popularity"]["tail_item_share"],
    }
    hard = {"false_negative_rate": None, "tail_share": None}
    if model is not None:
        probed = model["in_batch"][setting["order"]][str(setting["batch_size"])][level]
        in_batch["columns"] = np.array(probed["columns"], np.float64)
        in_batch["log_weight"] = _log_weights(probed)
        uniform["log_weight"] = _log_weights(model["uniform"][which])
        if which == "unknown":
            # Only later rows tell what masks of known positives leave.
            in_batch["false_negative_rate"] = probed["false_negative_rate"]
            uniform["false_negative_rate"] = model["uniform"][which][
                "false_negative_rate"
            ]
        hard = _hard(model["hard"], which, skip, last)
    return {"in_batch": in_batch, "uniform": uniform, "hard": hard}


def _hard(
    bands: dict[str, Any], which: str, skip: int, last: int | None
) -> dict[str, Any]:
    edges = bands["edges"]
    first, end = edges.index(skip), edges.index(edges[-1] if last is None else last)
    widths = np.diff(edges)[first:end]
    chosen = bands[which][first:end]
    logs = [_log_weights(band) for band in chosen]
    shares = np.log(widths / widths.sum())
    return {
        "log_weight": np.logaddexp.reduce(logs + shares[:, np.newaxis], axis=0),
        **{
            name: float(np.average([b[name] for b in chosen], weights=widths))
            for name in ("false_negative_rate", "tail_share")
        },
    }


def _log_weights(measured: dict[str, Any]) -> np.ndarray:
    """[R], -inf where a probe has no column."""
    logs = [-np.inf if v is None else v for v in measured["log_mean_weight"]]
    return np.array(logs, np.float64)


def _gradient(
    sources: dict[str, dict[str, Any]], shares: np.ndarray, batch_size: int
) -> dict[str, Any]:
    total = batch_size - 1
    counts = (
        shares[0] * sources["in_batch"]["columns"],
        np.array([shares[1] * total]),
        np.array([shares[2] * total]),
    )
    with np.errstate(divide="ignore"):
        masses = np.stack(
            [
                np.log(count) + sources[source]["log_weight"]
                for count, source in zip(counts, SOURCES, strict=True)
            ]
        )
    # The largest term is 1: of scores over a low temperature exp would be infinite.
    largest = np.maximum(masses.max(axis=0), 0)
    masses = np.exp(masses - largest)
    probability = (masses / (np.exp(-largest) + masses.sum(axis=0))).mean(axis=1)
    if not probability.sum():
        return {"gradient": None, "negatives_probability": 0.0}
    parts = (probability / probability.sum()).tolist()
    return {
        "gradient": dict(zip(SOURCES, parts, strict=True)),
        "negatives_probability": float(probability.sum()),
    }


def _mean(counts: np.ndarray, values: dict[str, float | None]) -> float | None:
    """The mean over the negatives; None if one that is needed was not measured."""
    used = [(n, v) for n, v in zip(counts, values.values(), strict=True) if n > 0]
    if not used or any(value is None for _, value in used):
        return None
    return float(sum(n * v for n, v in used) / sum(n for n, _ in used))
