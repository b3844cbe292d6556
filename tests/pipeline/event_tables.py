"""Random tables of events with skew, late rows and repeated ones, and their files."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def events(num, seed, strings=False):
    """Columns of rows: one user has a fifth of them, one item 40%, one request a tenth.

    Rows are not in the order of time, times tie, a twentieth is there twice, and some
    labels are 0.
    """
    rng = np.random.default_rng(seed)
    user = np.where(rng.random(num) < 0.2, 7, rng.integers(-20, 60, num))
    item = np.where(rng.random(num) < 0.4, 3, rng.integers(0, 90, num))
    request = np.where(rng.random(num) < 0.1, 11, rng.integers(0, num // 4, num))
    columns = {
        "user": user,
        "item": item,
        "request": request,
        "time": rng.integers(0, 400, num) / 4,
        "label": (rng.random(num) < 0.9).astype(float),
    }
    again = rng.permutation(num)[: num // 20]
    columns = {
        name: np.append(column, column[again]) for name, column in columns.items()
    }
    if strings:
        for name in ("user", "item"):
            columns[name] = np.array([f"é{value}" for value in columns[name]], object)
    return columns


def write_folder(folder, columns, kind="parquet", num_files=3):
    """Writes rows into several files, by day; one more has no rows."""
    folder = pathlib.Path(folder)
    table = pa.table(columns)
    bounds = np.linspace(0, len(table), num_files + 1).astype(int)
    pieces = [table.slice(a, b - a) for a, b in zip(bounds, bounds[1:], strict=False)]
    for number, piece in enumerate([*pieces, table.slice(0, 0)]):
        path = folder / f"day={number}" / f"part-0.{kind}"
        path.parent.mkdir(parents=True)
        if kind == "parquet":
            pq.write_table(piece, path, row_group_size=37)
        else:
            lines = [",".join(map(str, row.values())) for row in piece.to_pylist()]
            path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    (folder / "_SUCCESS").touch()
    return folder


def rows_of(columns, names):
    """Tuples of the columns of these names."""
    return list(zip(*(list(columns[name]) for name in names), strict=True))


def bytes_of(folder):
    """Contents of all files below a folder, by path."""
    folder = pathlib.Path(folder)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
