"""A recommender from a table of interactions: trained, measured, asked, exported."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterable
from typing import Any

from tfrs_negatives import models
from tfrs_negatives._repr import described
from tfrs_negatives.recommender import fitting, held_out_figures, recipe
from tfrs_negatives.recommender.best_for_user import Suggestion, best_for_user
from tfrs_negatives.recommender.export import export
from tfrs_negatives.recommender.settings import Settings
from tfrs_negatives.recommender.source import Source
from tfrs_negatives.recommender.time_split import Split, split
from tfrs_negatives.recommender.towers_of import FeatureTables, Towers
from tfrs_negatives.recommender.training_set import TrainingSet
from tfrs_negatives.types import PathLike, TableLike


class Recommender:
    """A two-tower model of a table of interactions, with the right negatives.

    It is what `tfrs-negatives train` trains. A query is made of the user's id, of what
    the user did last, if the table has times, and of features, if there are any. All
    items are negatives, or a sample of them where they are many; but none that the user
    has. See docs/recommender.md for how this was chosen.

    Args:
      settings: `Settings`, or None: the defaults.
      seed: Of the initial weights, the order of rows and what is drawn.
      **options: Fields of `Settings`, in the place of `settings`.

    Attributes:
      settings, seed: As given.
      figures: What `evaluate` found: a dict of measures; None before.
      epochs: For how many epochs the model is trained, which early stopping chose; None
        before.
      fitted: `Fitted`, what that training was like: its validation curve, its time.
      model: The `models.TwoTower` that was trained last; None before.
      towers: Its `Towers`.

    Raises:
      TypeError: Options that are not known.
      ValueError: Options that are out of range.

    Example:
      >>> drawn = np.random.default_rng(0).integers(0, [20, 60], [400, 2])
      >>> table = {"user": drawn[:, 0], "item": drawn[:, 1], "time": np.arange(400)}
      >>> recommender = tn.Recommender(dim=8, epochs=1)
      >>> recommender = recommender.fit(table, time="time", verbose=0)
      >>> 0 <= recommender.figures["recall@50"] <= 1
      True
      >>> len(recommender.recommend(user=7, k=5))
      5
      >>> len(recommender.recommend(history=[3, 14, 15], k=5))
      5
    """

    def __init__(
        self, settings: Settings | None = None, *, seed: int = 0, **options: Any
    ) -> None:
        if settings is not None and options:
            raise ValueError(
                f"Pass `settings` or {', '.join(options)}, received both. Use "
                "`dataclasses.replace(settings, ...)`."
            )
        self.settings = Settings(**options) if settings is None else settings
        self.seed = seed
        self.figures: dict[str, float | None] | None = None
        self.fitted: fitting.Fitted | None = None
        self.epochs: int | None = None
        self.model: models.TwoTower | None = None
        self.towers: Towers | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __repr__(self) -> str:
        return described(self, settings=self.settings, seed=self.seed)

    def fit(
        self,
        table: PathLike | TableLike | Any,
        *,
        held_out: PathLike | TableLike | None = None,
        users: PathLike | TableLike | None = None,
        items: PathLike | TableLike | None = None,
        verbose: int = 2,
        **columns: str,
    ) -> Recommender:
        """Measures the model on held-out rows; then trains it on all rows.

        The first says how good it is (`figures`) and for how many epochs to train; the
        second makes the model that is asked and exported.

        Args:
          table: A file, a dict of arrays, a data frame (pandas, Polars), an Arrow
            table, `data.Interactions`, or a `Source`.
          held_out: A file or a table of the rows to measure on, with the same columns.
            None: what each user did last.
          users, items: Files or tables with a row for each user or item that have the
            features; None: `table` has.
          verbose: 0: silent; 1: bars; 2: a line an epoch.
          **columns: Names of columns by role: `user`, `item`, `request`, `time`,
            `label`, `title`.

        Returns:
          The recommender.

        Raises:
          ValueError: A table that cannot be read, or has too little to learn from.
          FloatingPointError: Training has diverged.
        """
        source = _source(table, columns, held_out=held_out, users=users, items=items)
        scratch = tempfile.TemporaryDirectory(prefix="rows.")
        parts = self.split(source, scratch.name)
        features = self.features(source)
        self.evaluate(parts, features, verbose=verbose)
        self.train_on_all(parts, features, verbose=verbose)
        # Rows of large tables stay there for what is asked, as long as this object.
        self._scratch = scratch
        return self

    def split(self, source: Source, folder: PathLike, **options: Any) -> Split:
        """Splits a table of interactions as the settings say.

        Args:
          source: `Source`.
          folder: Where rows are written that are too many to be held.
          **options: Further ones of `time_split.split`.
        """
        options = {**self.settings.split_options(), **options}
        return split(
            source.parts(), folder, held_out=source.held_out_parts(), **options
        )

    def features(self, source: Source) -> FeatureTables:
        """The features of a table that the settings name."""
        return source.features(self.settings.user_features, self.settings.item_features)

    def evaluate(
        self, parts: Split, features: FeatureTables | None = None, verbose: int = 0
    ) -> dict[str, float | None]:
        """Trains a model without what is held out, and measures it on that.

        Args:
          parts: `Split`.
          features: `FeatureTables`, or None.
          verbose: See `fit`.

        Returns:
          The figures of `held_out_figures.figures`.

        Raises:
          FloatingPointError: Training has diverged.
        """
        fitted = self._train(
            parts,
            parts.fitted,
            features,
            validation=parts.validation,
            verbose=verbose,
        )
        self.fitted, self.epochs = fitted, fitted.epochs
        assert self.towers is not None
        self.figures = held_out_figures.figures(
            # Queries are of all that came before the held-out rows.
            self.towers.embed_users(parts.held_out.users, parts.training.histories),
            self.towers.embed_items(),
            parts.held_out,
            parts.training.item_counts,
        )
        return self.figures

    def train_on_all(
        self, parts: Split, features: FeatureTables | None = None, verbose: int = 0
    ) -> None:
        """Trains a new model on all rows, for as long as `evaluate` found best."""
        self._train(parts, parts.whole, features, epochs=self.epochs, verbose=verbose)

    def recommend(
        self,
        user: Any = None,
        k: int = 10,
        *,
        history: Iterable[Any] | None = None,
        popularity_discount: float = 0.0,
        keep_history: bool = False,
    ) -> list[Suggestion]:
        """The best items for a user.

        Args:
          user: The user's id. None, or an id that is not known: somebody of whom
            `history` is all that is known.
          k: How many items.
          history: Ids of the items the user had, the newest last, in the place of those
            of the table; ids that are not known are passed over.
          popularity_discount: Share of an item's log popularity that is taken off its
            score: 0 ranks by probability, 1 by how much likelier than for all users.
          keep_history: Whether to suggest what the user has already, too.

        Returns:
          List of `Suggestion`, the best first.

        Raises:
          ValueError: The recommender has not been fitted, or k is no positive number.
        """
        return best_for_user(
            self._made(),
            user,
            k,
            history,
            popularity_discount,
            keep_history,
        )

    def export(self, path: PathLike, *, live: bool = False, **options: Any) -> str:
        """Writes query tower and index as a folder that is loaded and served.

        It is a SavedModel: see `index.export_retrieval`. With `live` its items can be
        added, replaced, deleted and filtered while they are served: see
        `index.export_live_retrieval`. Features of items are attributes then, but for
        texts, under the names of their columns, where what a filter cannot hold is `_`.

        A request names a `user`, and may bring a `history` (ids of items, the newest
        last); else the answer is from what the table says that the user did. What the
        user has is left out. `popularity_discount` is as in `recommend`.

        Args:
          path: The folder to write.
          live: Whether items can change.
          **options: `overwrite` and `versioned` of `index.export_retrieval`; `index`,
            an empty `index.BruteForce` or `index.ScaNN`. None: ScaNN, where it is
            installed. With `live`, options of `index.export_live_retrieval` and no
            `index`.

        Returns:
          The absolute path of the folder.

        Raises:
          ValueError: The recommender has not been fitted; as `index.export_retrieval`.
        """
        return export(path, self._made(), live=live, **options)

    def _made(self) -> Towers:
        if self.towers is None:
            raise ValueError(
                "The recommender has no model yet: expected `fit` first. Call it."
            )
        return self.towers

    def _train(
        self,
        parts: Split,
        training: TrainingSet,
        features: FeatureTables | None,
        *,
        verbose: int,
        **options: Any,
    ) -> fitting.Fitted:
        # The same for both models, whichever rows they are trained on.
        settings = parts.training.chosen(self.settings)
        self.model = None  # The tables of two models need not be there at once.
        self.towers = Towers(training, features or FeatureTables(), settings, self.seed)
        self.model = recipe.build(training, self.towers, settings)
        return fitting.fit(
            self.model,
            training,
            self.towers,
            settings,
            self.seed,
            prepared=functools.partial(
                recipe.with_inputs,
                training=training,
                towers=self.towers,
                settings=settings,
                seed=self.seed,
            ),
            verbose=verbose,
            **options,
        )


def _source(table: Any, columns: dict[str, str], **others: Any) -> Source:
    if isinstance(table, Source):
        if columns or any(other is not None for other in others.values()):
            raise ValueError(
                "A `Source` says itself what its columns are: expected nothing beside "
                "it. Use `dataclasses.replace(source, ...)`."
            )
        return table
    if isinstance(table, (str, os.PathLike)):
        return Source(path=table, columns=columns, **others)
    return Source(table=table, columns=columns, **others)
