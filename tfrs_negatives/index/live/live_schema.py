"""What kinds of ids, payload and attributes a live index has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrs_negatives.index.filters.filter_tokens import KEYWORDS
from tfrs_negatives.index.live.live_changes import Upsert
from tfrs_negatives.index.live.live_values import (
    ATTRIBUTE_KINDS,
    ID_KINDS,
    PAYLOAD_KINDS,
    checked_column,
    checked_embeddings,
    checked_ids,
    inferred_kind,
    kind_of_ids,
)

Columns = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class LiveSchema:
    """The columns of a live index, which stay what they were when it was created.

    Attributes:
      id_kind: "integer" or "string".
      width: Of the embeddings.
      payload: The kind of each payload column: "integer", "float" or "string".
      attributes: The kind of each attribute: "category", "number", "date" or "set".
    """

    id_kind: str
    width: int
    payload: dict[str, str]
    attributes: dict[str, str]

    @classmethod
    def of(
        cls,
        ids: Any,
        embeddings: Any,
        payload: Columns | None,
        attributes: Columns | None,
        kinds: Mapping[str, str] | None,
    ) -> tuple[LiveSchema, Upsert]:
        """The schema that the first items have, and those items, checked.

        Args:
          ids: `[N]` ids.
          embeddings: `[N, d]`.
          payload: Columns by name.
          attributes: Columns by name.
          kinds: Kinds of columns that are not to be told by their values.

        Raises:
          ValueError: The items are none, or do not fit together.
        """
        given = {**(payload or {}), **(attributes or {})}
        kinds = dict(kinds or {})
        _check_names(payload or {}, attributes or {}, kinds)
        plain = checked_ids(ids)
        matrix = checked_embeddings(embeddings, len(plain), None)
        chosen = {
            name: kinds.get(name)
            or inferred_kind(name, values, name in (payload or {}))
            for name, values in given.items()
        }
        schema = cls(
            kind_of_ids(plain),
            matrix.shape[1],
            {name: chosen[name] for name in payload or {}},
            {name: chosen[name] for name in attributes or {}},
        )
        return schema, schema._upsert(plain, matrix, payload, attributes)

    def upsert(
        self,
        ids: Any,
        embeddings: Any,
        payload: Columns | None,
        attributes: Columns | None,
    ) -> Upsert:
        """Items to add or replace, checked.

        Raises:
          ValueError: They do not fit this schema, or each other.
        """
        plain = checked_ids(ids, self.id_kind)
        matrix = checked_embeddings(embeddings, len(plain), self.width)
        return self._upsert(plain, matrix, payload, attributes)

    def _upsert(
        self,
        ids: list[Any],
        embeddings: np.ndarray,
        payload: Columns | None,
        attributes: Columns | None,
    ) -> Upsert:
        return Upsert(
            ids,
            embeddings,
            _checked("payload", payload, self.payload, len(ids)),
            _checked("attributes", attributes, self.attributes, len(ids)),
        )

    def as_json(self) -> dict[str, Any]:
        """A dict for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> LiveSchema:
        """The schema that `as_json` described.

        Raises:
          ValueError: It is none.
        """
        try:
            schema = cls(**described)
            fits = (
                schema.id_kind in ID_KINDS
                and schema.width > 0
                and set(schema.payload.values()) <= set(PAYLOAD_KINDS)
                and set(schema.attributes.values()) <= set(ATTRIBUTE_KINDS)
            )
        except (TypeError, AttributeError):
            fits = False
        if not fits:
            raise ValueError(f"Expected the schema of a live index, got {described!r}.")
        return schema


def _checked(
    argument: str, columns: Columns | None, kinds: Mapping[str, str], num_ids: int
) -> dict[str, list[Any]]:
    columns = {} if columns is None else columns
    if not isinstance(columns, Mapping) or columns.keys() != kinds.keys():
        received = (
            ", ".join(sorted(map(str, columns))) or "none"
            if isinstance(columns, Mapping)
            else type(columns).__name__
        )
        expected = ", ".join(sorted(kinds)) or "none"
        raise ValueError(
            f"`{argument}` must be a dict of the columns of the index ({expected}), "
            f"received {received}. An item is replaced whole: give all columns."
        )
    return {
        name: checked_column(f"{argument}[{name!r}]", columns[name], kind, num_ids)
        for name, kind in kinds.items()
    }


def _check_names(
    payload: Columns, attributes: Columns, kinds: Mapping[str, str]
) -> None:
    both = set(payload) & set(attributes)
    if both or {"ids", "scores"} & set(payload):
        name = sorted(both or {"ids", "scores"} & set(payload))[0]
        raise ValueError(
            f"Columns must have names of their own, received {name!r} twice (answers "
            "have ids and scores beside the payload). Rename one."
        )
    if not all(isinstance(name, str) for name in (*payload, *attributes)):
        raise ValueError("Columns must have names that are strings. Rename them.")
    for name in attributes:
        if not name.isidentifier() or name in KEYWORDS:
            raise ValueError(
                "Attributes must have names that a filter can hold, such as "
                f"`in_stock`, received {name!r}. Use letters, digits and underscores, "
                f"and none of {', '.join(sorted(KEYWORDS))}."
            )
    for name, kind in kinds.items():
        known = PAYLOAD_KINDS if name in payload else ATTRIBUTE_KINDS
        if (name not in payload and name not in attributes) or kind not in known:
            raise ValueError(
                "`kinds` must name columns and their kinds (of payload: "
                f"{', '.join(PAYLOAD_KINDS)}; of attributes: "
                f"{', '.join(ATTRIBUTE_KINDS)}), received {name!r}: {kind!r}."
            )
