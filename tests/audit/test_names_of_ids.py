"""What ids are called changes nothing in an audit."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from tfrs_negatives import audit

NUM_ROWS, NUM_USERS, NUM_ITEMS = 900, 30, 60


def rows():
    rng = np.random.default_rng(0)
    user = rng.integers(0, NUM_USERS, NUM_ROWS)
    item = (NUM_ITEMS * rng.random(NUM_ROWS) ** 2).astype(np.int64)
    return {"user": user, "item": item, "basket": 4 * user + item % 4}


def shifted(ids):
    return ids - 1_000


def signed_hashes(ids):
    """One-to-one, half of them negative, in another order."""
    scattered = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return scattered.view(np.int64)


def words(ids):
    return [f"-{n}" if n else "" for n in ids.tolist()]


def report(folder, rename, ending, with_model):
    folder.mkdir()
    data, path = rows(), folder / f"table.{ending}"
    table = pa.table({name: pa.array(rename(ids)) for name, ids in data.items()})
    if ending == "csv":
        csv.write_csv(table, path)
    else:
        pq.write_table(table, path, row_group_size=400)
    table = audit.read_table(path, request="basket", for_model=with_model)
    model = None
    if with_model:
        rng = np.random.default_rng(1)
        np.savez(
            folder / "model.npz",
            user_ids=np.array(rename(np.arange(NUM_USERS))),
            item_ids=np.array(rename(np.arange(NUM_ITEMS))),
            user_embeddings=rng.normal(size=(NUM_USERS, 8)),
            item_embeddings=rng.normal(size=(NUM_ITEMS, 8)),
        )
        model = audit.load_model(folder / "model.npz", table)
    found = audit.measure(
        table, model, batch_sizes=[64], max_batches=9, num_probes=30, progress=False
    )
    found["table"].pop("name")
    return found


@pytest.mark.parametrize(
    "rename, ending, with_model",
    [
        (shifted, "parquet", True),
        (shifted, "csv", True),
        (signed_hashes, "parquet", False),
        (words, "parquet", True),  # In a text file "" would be a null.
    ],
)
def test_an_audit_of_renamed_ids_is_the_same(tmp_path, rename, ending, with_model):
    expected = report(tmp_path / "one", lambda ids: ids, "parquet", with_model)
    assert expected["table"]["requests"] == len(set(rows()["basket"].tolist()))
    assert report(tmp_path / "other", rename, ending, with_model) == expected
