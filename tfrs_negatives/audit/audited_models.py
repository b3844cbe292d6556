"""Models to audit: scores of all items for some users of a table."""

from __future__ import annotations

import json
import os
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfrs_negatives._export_schema import LIVE_FORMAT, TOWER_FORMAT
from tfrs_negatives._exports import DESCRIPTION
from tfrs_negatives._saved_live_retrieval import SavedLiveRetrieval
from tfrs_negatives._saved_retrieval import load_retrieval
from tfrs_negatives._scann_ops import scann_ops
from tfrs_negatives.audit.audit_table import AuditTable, comparable_ids
from tfrs_negatives.types import PathLike

_ARRAYS = ("user_ids", "item_ids", "user_embeddings", "item_embeddings")

# Answers of an index that are held at a time.
_ANSWERS = 2**21


class AuditedModel(Protocol):
    """A model of a table's users and items.

    Attributes:
      knows_user: [U] bool, which of the table's users it knows.
      knows_item: [N] bool, which of its items.
    """

    knows_user: np.ndarray
    knows_item: np.ndarray

    def scores(self, users: np.ndarray) -> np.ndarray:
        """[m, N] float32 for [m] users, NaN for the items that it does not know."""


def load_model(path: PathLike, table: AuditTable) -> AuditedModel:
    """Loads a model for an audit of a table.

    Args:
      path: An `.npz` file of "user_ids" [u], "item_ids" [v], "user_embeddings" [u, d]
        and "item_embeddings" [v, d], whose dot product is the score; or a folder that
        `index.export_retrieval` or `index.export_live_retrieval` wrote for queries of
        one feature "user".
      table: `AuditTable`, read with `for_model`.

    Returns:
      `AuditedModel`.

    Raises:
      ValueError: Something else is there, or it knows none of the table's users or
        fewer than two of its items.
      ImportError: The index needs scann, which is missing or does not fit TensorFlow.
    """
    path = os.fspath(path)
    model: AuditedModel
    if path.endswith(".npz"):
        model = EmbeddingsModel(path, table)
    else:
        model = ExportedModel(path, table)
    for what, known, least in (
        ("users", model.knows_user, 1),
        ("items", model.knows_item, 2),
    ):
        if known.sum() < least:
            raise ValueError(
                f"The model in {path!r} must know at least {least} of the {len(known)} "
                f"{what} of {table.name}, received {known.sum()}. Was it trained on "
                "this table, and do both write the ids alike?"
            )
    return model


class EmbeddingsModel:
    """Embeddings from an `.npz` file; `load_model` says which."""

    def __init__(self, path: str, table: AuditTable) -> None:
        arrays = _arrays(path)
        self.knows_user, self._user = _rows(
            arrays["user_ids"], table.user_ids, "user" in table.hashed
        )
        self.knows_item, item = _rows(
            arrays["item_ids"], table.item_ids, "item" in table.hashed
        )
        self._queries = arrays["user_embeddings"]
        self._candidates = arrays["item_embeddings"][item].astype(np.float32)

    def scores(self, users: np.ndarray) -> np.ndarray:
        queries = self._queries[self._user[users]].astype(np.float32)
        scores = queries @ self._candidates.T
        scores[:, ~self.knows_item] = np.nan
        return scores


class ExportedModel:
    """An export, of either form: its index is asked for all items."""

    def __init__(self, path: str, table: AuditTable) -> None:
        try:
            with open(os.path.join(path, DESCRIPTION), encoding="utf-8") as file:
                description = json.load(file)
        except OSError as error:
            raise ValueError(
                f"Expected an .npz file or a folder that export_retrieval wrote, "
                f"received {path!r}, which is neither. Name one."
            ) from error
        # What a request may leave out stands for what the model knows of the user.
        left_out = description.get("optional", {})
        if [name for name in description["query"] if name not in left_out] != ["user"]:
            raise ValueError(
                f"Expected a model of users' ids, received {path!r}, whose queries are "
                f"{', '.join(description['query'])}. Pass an .npz file of its "
                "embeddings."
            )
        self._serve, self._num = _serving(path, description)
        # An audit looks at what users have, too, and at scores as they were learned.
        options: dict[str, list[Any]] = {
            "exclude_history": [False],
            "popularity_discount": [0.0],
            "where": [""],
        }
        self._options = {
            name: tf.constant(options[name]) for name in description.get("options", {})
        } | {
            name: tf.constant([row], description["query"][name]["dtype"])
            for name, row in left_out.items()
        }
        self._table = table
        self._order = np.argsort(table.item_ids)
        self._dtype = tf.as_dtype(description["query"]["user"]["dtype"])
        # The index answers unknown users too, so that all count as known.
        self.knows_user = np.ones(table.num_users, bool)
        self._inputs(np.zeros(1, np.int64))
        self.knows_item = ~np.isnan(self.scores(np.zeros(1, np.int64))[0])

    def scores(self, users: np.ndarray) -> np.ndarray:
        block = max(1, _ANSWERS // self._num)
        parts = np.split(users, range(block, len(users), block))
        return np.concatenate([self._scores(part) for part in parts])

    def _scores(self, users: np.ndarray) -> np.ndarray:
        answer = self._serve(
            user=self._inputs(users),
            k=tf.constant(self._num, tf.int32),
            **self._options,
        )
        table = self._table
        ids, found = answer["ids"].numpy(), answer["scores"].numpy()
        ids = comparable_ids(ids.ravel(), "item" in table.hashed)
        scores = np.full([len(users), table.num_items], np.nan, np.float32)
        if ids is None:
            return scores
        places = np.searchsorted(table.item_ids, ids, sorter=self._order)
        places = self._order[np.minimum(places, table.num_items - 1)]
        places = places.reshape(found.shape)
        hit = table.item_ids[places] == ids.reshape(found.shape)
        hit &= np.isfinite(found)
        rows = np.broadcast_to(np.arange(len(users))[:, None], found.shape)
        scores[rows[hit], places[hit]] = found[hit]
        return scores

    def _inputs(self, users: np.ndarray) -> tf.Tensor:
        """Ids of users as the model takes them."""
        ids = self._table.user_ids[users].tolist()
        if "user" in self._table.hashed:
            names = self._table.user_names or {}
            ids = [names[number] for number in ids]
        if self._dtype == tf.string:
            return tf.constant([str(number) for number in ids])
        try:
            return tf.constant([int(text) for text in ids], self._dtype)
        except ValueError as error:
            raise ValueError(
                f"The model takes users' ids that are whole numbers, received "
                f"{ids[0]!r} in {self._table.name}. Was it trained on this table?"
            ) from error


def _arrays(path: str) -> dict[str, np.ndarray]:
    """The checked arrays of an `.npz` file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in _ARRAYS if name not in file.files]
            arrays = {} if missing else {name: file[name] for name in _ARRAYS}
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"Expected an .npz file of embeddings, received {path!r}, which cannot be "
            f"read ({error}). Write it with numpy.savez."
        ) from error
    if missing:
        raise ValueError(
            f"{path!r} must hold {', '.join(_ARRAYS)}, received none named "
            f"{', '.join(missing)}. Write it with numpy.savez."
        )
    users, items = arrays["user_embeddings"], arrays["item_embeddings"]
    shapes = {name: array.shape for name, array in arrays.items()}
    if (
        users.ndim != 2
        or items.ndim != 2
        or users.shape[1] != items.shape[1]
        or shapes["user_ids"] != users.shape[:1]
        or shapes["item_ids"] != items.shape[:1]
    ):
        raise ValueError(
            f"{path!r} must hold ids [u] and [v] and embeddings [u, d] and [v, d], "
            f"received the shapes {shapes}. Give each id its row."
        )
    for name in ("user_embeddings", "item_embeddings"):
        if not np.isfinite(arrays[name]).all():
            raise ValueError(
                f"{name} of {path!r} must be finite, received NaN or infinity. Has "
                "training diverged?"
            )
    return arrays


def _rows(
    ids: np.ndarray, wanted: np.ndarray, hashed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the wanted ids are there, and the row of each (0 if it is not)."""
    own = comparable_ids(ids, hashed)
    if own is None:
        return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.int64)
    order = np.argsort(own, kind="stable")
    place = np.minimum(np.searchsorted(own, wanted, sorter=order), len(own) - 1)
    row = order[place]
    known = own[row] == wanted
    return known, np.where(known, row, 0)


def _serving(path: str, description: dict[str, Any]) -> tuple[Any, int]:
    """What answers, and from how many items."""
    if description.get("format") == TOWER_FORMAT:
        raise ValueError(
            f"Expected a model with its items, received {path!r}, whose items are in "
            "shards. Export them as one, or pass an .npz file of its embeddings."
        )
    if description.get("format") == LIVE_FORMAT:
        model = load_retrieval(path)
        assert isinstance(model, SavedLiveRetrieval)
        return model.signatures["serving_default"], len(model.items)
    signatures = _load(path, description).signatures
    return signatures["serving_default"], description["candidates"]


def _load(path: str, description: dict[str, Any]) -> Any:
    if "scann" in description:
        try:
            scann_ops()
        except ImportError as error:
            raise ImportError(f"The index in {path!r} needs scann. {error}") from error
    try:
        return tf.saved_model.load(path)
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(
            f"Expected a whole SavedModel, received {path!r}, which cannot be loaded "
            f"({str(error).splitlines()[0]}). Export it again."
        ) from error
