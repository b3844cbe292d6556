"""A tower: from the columns of a user or an item to an embedding."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._feature_columns import feature_values, missing
from tfrs_negatives._id_columns import column_of
from tfrs_negatives._keras import keras, unconverted
from tfrs_negatives._repr import described
from tfrs_negatives.towers.feature import Feature
from tfrs_negatives.towers.history import History
from tfrs_negatives.towers.id_feature import Id
from tfrs_negatives.types import Config, Features, TableLike, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class Tower(keras.layers.Layer):
    """From the columns of a user or an item to one embedding.

    The embedding is the sum of its features' vectors, as in LightFM (Kula, "Metadata
    Embeddings for User and Item Cold-start Recommendations", 2015). `hidden` layers
    over all of them are added to it, for effects that no sum can express ("wide and
    deep", Cheng et al., 2016). Its length is made 1, so scores are cosines: give the
    task a `temperature`.

    Args:
      features: Layers of this folder, each with its column. A column may feed several
        features of different classes.
      dim: Width of the embedding.
      hidden: Widths of hidden layers; none by default.
      normalize: Whether embeddings have length 1.
      name: Name of the layer.

    Attributes:
      dim, hidden, normalize: As given.

    Call arguments:
      features: Tensors by the names of columns, those of others too. The tensor alone,
        if the tower has one column.
      training: Whether the layer trains.

    Returns:
      [B, dim].

    Raises:
      ValueError: No features, or two of one class for one column; in a call, a column
        that is not there.

    Reference:
      * Kula, "Metadata embeddings for user and item cold-start recommendations",
        2015.
      * Cheng et al., "Wide and deep learning for recommender systems", 2016.

    Example:
      >>> towers = tn.towers
      >>> tower = towers.Tower([towers.Id("item"), towers.Text("title")], dim=64)
      >>> items = {"item": [1, 2], "title": ["Toy Story", "Heat"]}
      >>> tower = tower.adapt(items)
      >>> tower(tower.tensors(items)).shape
      TensorShape([2, 64])
    """

    _is_made = False

    def __init__(
        self,
        features: Sequence[Feature],
        dim: int = 64,
        hidden: Sequence[int] = (),
        normalize: bool = True,
        name: str | None = None,
    ) -> None:
        _checks.check_at_least("dim", dim, 1)
        features = list(features)
        _check_features(features, dim)
        super().__init__(name=name, autocast=False)
        self.dim = dim
        self.hidden = tuple(hidden)
        self.normalize = normalize
        for feature in features:
            if feature.dim is None:
                feature.dim = dim
        # One by one: TensorFlow finds the tables of attributes, not of Keras 3's lists.
        self._num_features = len(features)
        for place, feature in enumerate(features):
            setattr(self, f"feature_{place}", feature)
        self._left_out: dict[str, str] = {}

    def __repr__(self) -> str:
        return described(
            self,
            features=self.features,
            dim=self.dim,
            hidden=self.hidden,
            normalize=self.normalize,
        )

    @property
    def features(self) -> list[Feature]:
        """The features, as given."""
        return [getattr(self, f"feature_{n}") for n in range(self._num_features)]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that a call takes, each once."""
        return tuple(dict.fromkeys(feature.column for feature in self.used))

    @property
    def used(self) -> list[Feature]:
        """The features but for those that `adapt` left out."""
        return [f for f in self.features if f.name not in self._left_out]

    @property
    def id_feature(self) -> Id | None:
        """The first `Id` among the features."""
        return next((f for f in self.features if isinstance(f, Id)), None)

    @property
    def histories(self) -> list[History]:
        """The `History`s among the features."""
        return [f for f in self.features if isinstance(f, History)]

    def adapt(self, table: TableLike) -> Tower:
        """Adapts every feature to its column of a table.

        What says nothing is left out, and `describe` says so: a column with one value,
        with none, or equal to that of an earlier feature of the same class. A tower of
        such columns alone keeps its first feature.

        Args:
          table: Columns by name: a dict of arrays, a data frame (pandas, Polars), an
            Arrow table. One row is one user or item, or one row of training. It need
            not have the column of a `History`.

        Returns:
          The tower.

        Raises:
          ValueError: A column that is not there, is there twice, holds values of
            several kinds, or of a kind that its feature does not take; the tower has
            weights.
        """
        if self.built:
            raise ValueError(
                "`adapt` comes before the first call: the tower has weights by now. "
                "Make a new one."
            )
        self._left_out = {}
        seen: dict[str, list[tuple[str, np.ndarray]]] = {}
        for feature in self.features:
            if isinstance(feature, History):
                continue
            values = column_of(table, feature.column)
            feature.adapt(values)
            if isinstance(feature, Id):
                continue
            found = feature_values(feature.column, values)
            earlier = seen.setdefault(type(feature).__name__, [])
            reason = _says_nothing(found, earlier)
            if reason is not None:
                self._left_out[feature.name] = reason
            earlier.append((feature.column, found))
        if not self.used:
            self._left_out.pop(self.features[0].name)
        return self

    def describe(self) -> list[str]:
        """What `adapt` found, a line for each feature."""
        return [
            f.summary
            + (f": {self._left_out[f.name]}" if f.name in self._left_out else "")
            for f in self.features
        ]

    def tensors(self, table: TableLike) -> dict[str, tf.Tensor]:
        """The columns of a table as the tower takes them and `tf.data` keeps them.

        Args:
          table: As `adapt` takes it. Columns of `History`s are ragged tensors, matrices
            or lists of ids, and may be lacking.

        Returns:
          Dict from `columns` to tensors of the table's rows: strings, int64 or float64.

        Raises:
          ValueError: As `adapt`.
        """
        columns = {}
        for feature in self.used:
            if isinstance(feature, History) and feature.column not in _names(table):
                continue
            columns[feature.column] = feature.tensor(column_of(table, feature.column))
        return columns

    def signature(self) -> dict[str, tf.TensorSpec]:
        """What the tower takes: `query_signature` of `index.export_retrieval`."""
        return {feature.column: feature.signature() for feature in self.used}

    def embed(self, table: TableLike, batch_size: int = 8192) -> np.ndarray:
        """Embeddings of a table's rows.

        Args:
          table: As `tensors` takes it.
          batch_size: Rows at once.

        Returns:
          [n, dim] float32.
        """
        columns = self.tensors(table)
        first = next(iter(columns.values()))
        num_rows = int(first.nrows() if hasattr(first, "nrows") else first.shape[0])
        embeddings = np.empty([num_rows, self.dim], np.float32)
        for start in range(0, num_rows, batch_size):
            rows = slice(start, start + batch_size)
            part = {name: column[rows] for name, column in columns.items()}
            embeddings[rows] = tf.cast(self(part), tf.float32).numpy()
        return embeddings

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "features": [keras.utils.serialize_keras_object(f) for f in self.features],
            "dim": self.dim,
            "hidden": list(self.hidden),
            "normalize": self.normalize,
            "left_out": dict(self._left_out),
        }

    @classmethod
    def from_config(cls, config: Config) -> Tower:
        config = dict(config)
        left_out = config.pop("left_out")
        features = map(keras.utils.deserialize_keras_object, config.pop("features"))
        tower = cls(features=list(features), **config)
        tower._left_out = dict(left_out)
        return tower

    def build(self, input_shape: Any = None) -> None:
        for feature in self.used:
            if not feature.built:
                feature.build()
        width = self.dim * len(self.used)
        self._stack = []
        for number in self.hidden:
            self._stack.append(_dense(number, width, "relu"))
            width = number
        if self.hidden:
            self._stack.append(_dense(self.dim, width, None))
        self._is_made = True

    @property
    def built(self) -> bool:
        """Whether the weights are there."""
        return self._is_made

    @built.setter
    def built(self, value: bool) -> None:
        # Keras 3 says so of each layer that it has loaded, whatever that did.
        pass

    def build_from_config(self, config: Config) -> None:
        if all(feature.is_ready() for feature in self.used):
            self.build()

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return (None, self.dim)

    @unconverted
    def call(
        self, features: Features | TensorLike, training: bool = False
    ) -> tf.Tensor:
        columns = self._columns_of(features)
        vectors = [
            feature(columns[feature.column], training=training) for feature in self.used
        ]
        embeddings = tf.add_n(vectors)
        if self._stack:
            deep = tf.concat(vectors, axis=1)
            for layer in self._stack:
                deep = layer(deep)
            embeddings += deep
        return (
            tf.math.l2_normalize(embeddings, axis=1) if self.normalize else embeddings
        )

    def _columns_of(self, features: Features | TensorLike) -> Features:
        if not isinstance(features, dict):
            if len(self.columns) != 1:
                raise ValueError(
                    f"The tower takes a dict of the columns {list(self.columns)}, "
                    f"received a {type(features).__name__}."
                )
            return {self.columns[0]: features}
        lacking = [column for column in self.columns if column not in features]
        if lacking:
            raise ValueError(
                f"The tower takes the columns {list(self.columns)}, received "
                f"{sorted(features)}, without {' and '.join(map(repr, lacking))}. Add "
                "them to the features."
            )
        # What else a batch has, such as negatives, may have another number of rows.
        return {column: features[column] for column in self.columns}


def _names(table: TableLike) -> Collection[str]:
    """Names of a table's columns."""
    if isinstance(table, dict):
        return table.keys()
    names = getattr(table, "column_names", None)  # Arrow's columns have none.
    return list(table.columns if names is None else names)


def _dense(number: int, width: int, activation: str | None) -> Any:
    layer = keras.layers.Dense(number, activation)
    layer.build([None, width])
    return layer


def _check_features(features: Collection[Any], dim: int) -> None:
    if not features:
        raise ValueError("`features` must hold at least one feature, received none.")
    for feature in features:
        if not isinstance(feature, Feature):
            raise ValueError(
                "`features` must be features of `tfrs_negatives.towers`, such as "
                f"`towers.Categorical('genre')`, received {feature!r}."
            )
        if feature.dim not in (None, dim):
            raise ValueError(
                f"{feature!r} must be as wide as the tower, {dim}, which adds its "
                "features up. Leave out its `dim`."
            )
    names = [(type(f).__name__, f.column) for f in features]
    twice = sorted(
        {f"{kind}({col!r})" for kind, col in names if names.count((kind, col)) > 1}
    )
    if twice:
        raise ValueError(
            f"`features` must name each feature once, received {' and '.join(twice)} "
            "more than once. Leave out the others."
        )
    layers = [feature.name for feature in features]
    if len(set(layers)) < len(layers):
        raise ValueError(
            f"Features of a tower need names of their own, received {layers}. Pass "
            "`name=`."
        )


def _says_nothing(
    values: np.ndarray, earlier: Sequence[tuple[str, np.ndarray]]
) -> str | None:
    """Why a column is of no use beside earlier ones, or None."""
    if missing(values).all():
        return "left out"
    flat = values.reshape(len(values), -1)
    same = flat[1:] == flat[:-1]
    if values.dtype.kind == "f":
        same |= np.isnan(flat[1:]) & np.isnan(flat[:-1])
    if same.all():
        return "left out, as all rows are equal"
    for name, others in earlier:
        if others.shape == values.shape and others.dtype == values.dtype:
            if np.array_equal(others, values, equal_nan=values.dtype.kind == "f"):
                return f"left out, as it equals {name!r}"
    return None
