"""What a task's options must be for its loss to be over the whole catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.samplers.catalogue_log_q import CatalogueLogQ

if TYPE_CHECKING:
    from tfrs_negatives.tasks.options import Options


def check_options(options: Options) -> None:
    """Raises `ValueError` where an item would count more than once, or in part.

    Only with the log q of a `samplers.Catalogue`, whose docstring says why.
    """
    if not isinstance(options.sampling_correction, CatalogueLogQ):
        return
    sampled = options.sampled
    expected = {
        "a softmax": not isinstance(sampled, SampledSigmoid),
        '`positive="negatives"` or "outside"': sampled.positive
        not in ("all", "refined"),
        "`remove_accidental_hits=True`": options.remove_accidental_hits,
        "`num_hard_negatives=None`": sampled.num_hard_negatives is None,
        "`memory=None`": options.memory is None,
        "`global_negatives=False`": not options.global_negatives,
    }
    missing = [name for name, holds in expected.items() if not holds]
    if missing:
        raise ValueError(
            "With the log q of a `samplers.Catalogue` each item is to count once in a "
            f"row's sum: expected {missing[0]}. Otherwise it would count in part or "
            "several times; see `samplers.Catalogue`."
        )


def check_keys(options: Options, has_keys: bool) -> None:
    """Raises `ValueError` where keys would drop some columns of an item alone."""
    if not isinstance(options.sampling_correction, CatalogueLogQ):
        return
    if has_keys and not options.mask_shared_positives:
        raise ValueError(
            "`query_keys` alone drop the columns that a user's rows brought, and leave "
            "the catalogue's columns of the same items: expected "
            "`mask_shared_positives=True` with the log q of a `samplers.Catalogue`. "
            "Set it, or pass the user's items as `known_positive_ids`."
        )
