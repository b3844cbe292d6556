"""The rows that workers read, without an engine."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from event_tables import events, write_folder

from tfrs_negatives._ids import as_int64
from tfrs_negatives.data import stream_interactions
from tfrs_negatives.pipeline import input_rows
from tfrs_negatives.pipeline.input_rows import InputRows

COLUMNS = {"time": "time", "label": "label"}


def spans(parts):
    starts = parts.starts()
    return list(zip(starts, [*starts[1:], -1], strict=True))


def read(span, parts):
    """The batches of a span, as a worker reads them."""
    return input_rows._read(span, parts, input_rows._batches)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_workers_read_all_rows_once(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(input_rows, "_BATCH", 11)
    path = write_folder(tmp_path / "in", events(300, seed=1), kind)
    parts = InputRows(path, COLUMNS).parts
    assert len(spans(parts)) == 4
    batches = []
    for span in spans(parts):
        sent = pickle.loads(pickle.dumps(parts))
        batches += list(read(span, sent))
    assert sum(map(input_rows.num_read, batches)) == 315
    table = pa.concat_tables([b.replace_schema_metadata() for b in batches])
    (wanted,) = stream_interactions(path, **COLUMNS).as_numpy_iterator()
    kept = wanted["label"] > 0
    for role in ("user", "item", "request", "time", "label"):
        expected = [
            v.decode() if isinstance(v, bytes) else v for v in wanted[role][kept]
        ]
        assert table.column(role).to_pylist() == expected
    places = list(
        zip(table["part"].to_pylist(), table["place"].to_pylist(), strict=True)
    )
    assert places == sorted(set(places))
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    sent = input_rows.unpacked(input_rows.packed(shuffled))
    assert input_rows.in_table_order(sent).equals(table)


def test_row_groups_are_read_apart(tmp_path, monkeypatch):
    from tfrs_negatives.data import parquet_parts

    monkeypatch.setattr(parquet_parts, "_SPAN", 50)
    columns = events(300, seed=2)
    path = write_folder(tmp_path / "in", columns)
    parts = InputRows(path, {}).parts
    # Files of 105 rows in groups of 37: two groups, and the third.
    assert len(spans(parts)) == 3 * 2 + 1
    batches = [batch for span in spans(parts) for batch in read(span, parts)]
    users = np.concatenate([batch["user"].to_numpy() for batch in batches])
    np.testing.assert_array_equal(users, columns["user"])


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_workers_see_that_a_file_has_changed(tmp_path, kind):
    path = write_folder(tmp_path / "in", events(100, seed=3), kind)
    rows = InputRows(path, COLUMNS)
    before = rows.description()
    sent = pickle.loads(pickle.dumps(rows.parts))
    assert InputRows(path, COLUMNS).description() == before
    file = path / "day=1" / f"part-0.{kind}"
    file.write_bytes(file.read_bytes() * 2)
    with pytest.raises(ValueError, match="to stay as it is while it is read"):
        for span in spans(sent):
            list(read(span, sent))
    assert InputRows(path, {"time": "time"}).description() != before


def test_keys():
    numbers = pa.chunked_array([[3, -1], [2**40]])
    assert input_rows.keys_of(numbers).tolist() == [3, -1, 2**40]
    texts = pa.array(["é", "", "é", "x"])
    expected = as_int64("ids", np.array(["é", "", "é", "x"])).numpy()
    np.testing.assert_array_equal(input_rows.keys_of(texts), expected)


def test_no_rows_have_all_columns(tmp_path):
    path = write_folder(tmp_path / "in", events(40, seed=4, strings=True))
    rows = InputRows(path, COLUMNS)
    (span, *_) = spans(rows.parts)
    batch = next(read(span, rows.parts))
    assert rows.no_rows().schema == batch.schema and len(rows.no_rows()) == 0
