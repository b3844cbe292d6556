"""How a recommender is trained."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfrs_negatives import _checks
from tfrs_negatives.data.histories_of import TIES
from tfrs_negatives.recommender.optimizer_choice import ADAM, AUTO, LAZY_ADAM

# Temperatures of tables of many training rows, and of fewer. On validation splits 0.15
# was better for MovieLens latest-small, MovieLens 100K and MovieTweetings, all of which
# have fewer than 120,000; 0.1 for Online Retail and Gowalla, which have more.
_MANY_ROWS = 200_000
_SHARP, _SMOOTH = 0.1, 0.15

# With histories: on validation splits of MovieLens latest-small and 100K, rows of
# unknown users make the model better, those of known users too.
_UNKNOWN_SHARE = 0.2

# An item's embedding learns from each history that it is in. Without histories it has
# its own rows alone: more and smaller steps were better on Gowalla's validation split.
_EPOCHS, _EPOCHS_WITHOUT_HISTORIES = 10, 15
_RATE, _RATE_WITHOUT_HISTORIES = 0.01, 0.005

#: Names of the settings that a table decides where they are None.
LEFT_TO_THE_TABLE = ("temperature", "unknown_share", "epochs", "learning_rate")

#: What a query is made of.
USER, HISTORY = "user", "history"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a recommender is trained; the defaults were chosen on validation splits.

    Attributes:
      user_features, item_features: Names of columns, as `towers.features_for` takes
        them.
      history: How many of a user's last items are part of a query; 0: none. None: 50
        where the table has times and up to 20 million rows.
      ties: What a row's history has of the user's other rows of the same time, such as
        those of one basket: "above": those above it in the table; "unseen": nothing.
        None: "above", unless these rows are sorted by item.
      query: "user": a query is the user's id, features and history. "history": it is
        features and history, as for sessions and for users who come and go.
      unknown_share: Share of a batch's rows that are trained as those of a user that is
        not known, so that a history alone says enough of one. None: 0.2 where queries
        have histories, else 0.
      repeats: Whether rows of an item that the user had before are trained on. By
        default they are not: answers leave out what a user has, and a model that
        learned to say it again would be asked for something else.
      dim: Width of the embeddings.
      hidden: Widths of hidden layers of both towers.
      epochs: How many at the most. None: 10 where queries have histories, else 15.
      patience: Training stops after so many epochs whose validation is worse than the
        best by more than chance (`early_stopping`). None: nothing is put aside for
        validation, and all `epochs` are made.
      batch_size: Rows of a batch.
      steps_per_epoch: Steps of an epoch; None: all rows.
      temperature: Scores are cosines divided by it. None: 0.1 from 200,000 training
        rows on, 0.15 for fewer, which say less about which items are alike.
      learning_rate: At the start; it falls to zero along a cosine. None: 0.01 where
        queries have histories, else 0.005.
      optimizer: "adam", "lazy-adam", or "auto": by the number of users and items.
      num_negatives: Items that are drawn uniformly and shared by a batch. None: all
        items are columns, of up to 20,000; of more, 1,024 are drawn.

    Raises:
      ValueError: A number out of range, an unknown choice, no history where it is all
        that a query is made of.

    Example:
      >>> settings = tn.recommender.Settings(query="history", dim=32)
      >>> tn.Recommender(settings).settings.dim
      32
    """

    user_features: tuple[str, ...] = ()
    item_features: tuple[str, ...] = ()
    history: int | None = None
    ties: str | None = None
    query: str = USER
    unknown_share: float | None = None
    repeats: bool = False
    dim: int = 64
    hidden: tuple[int, ...] = ()
    epochs: int | None = None
    patience: int | None = 3
    batch_size: int = 1024
    steps_per_epoch: int | None = None
    temperature: float | None = None
    learning_rate: float | None = None
    optimizer: str = AUTO
    num_negatives: int | None = None

    def chosen(self, num_rows: int, has_histories: bool) -> Settings:
        """These settings, with those that are left to the table.

        Args:
          num_rows: How many training rows it has.
          has_histories: Whether they have histories.
        """
        chosen: dict[str, Any] = {
            "temperature": _SHARP if num_rows >= _MANY_ROWS else _SMOOTH,
            "unknown_share": _UNKNOWN_SHARE if has_histories else 0.0,
            "epochs": _EPOCHS if has_histories else _EPOCHS_WITHOUT_HISTORIES,
            "learning_rate": _RATE if has_histories else _RATE_WITHOUT_HISTORIES,
        }
        left = [name for name in LEFT_TO_THE_TABLE if getattr(self, name) is None]
        return dataclasses.replace(self, **{name: chosen[name] for name in left})

    def split_options(self) -> dict[str, Any]:
        """What `time_split.split` takes of them."""
        return {
            "history": self.history,
            "ties": self.ties,
            "repeats": self.repeats,
            "stops_early": self.patience is not None,
        }

    def __post_init__(self) -> None:
        for name in ("dim", "batch_size"):
            _checks.check_at_least(name, getattr(self, name), 1)
        if self.epochs is not None:
            _checks.check_at_least("epochs", self.epochs, 1)
        if self.unknown_share is not None and not 0 <= self.unknown_share < 1:
            raise ValueError(
                f"`unknown_share` must be in [0, 1), received {self.unknown_share!r}: "
                "at 1 no row would train its user. Lower it."
            )
        if self.ties is not None:
            _checks.check_choice("ties", self.ties, TIES)
        _checks.check_choice("query", self.query, (USER, HISTORY))
        _checks.check_choice("optimizer", self.optimizer, (AUTO, ADAM, LAZY_ADAM))
        if self.query == HISTORY and self.history == 0:
            raise ValueError(
                f"`query` {HISTORY!r} needs a history, received history=0. Leave "
                "`history` out, or pass how many items a query has."
            )
