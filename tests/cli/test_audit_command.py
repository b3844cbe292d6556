"""`tfrs-negatives audit` from arguments to files, and mistakes in one line."""

import json

import numpy as np
import pandas as pd
import pytest

from tfrs_negatives.cli import main

SMALL = ["--batch-sizes", "32", "64", "--spread-buffer", "4", "--verbose", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_csv):
    """Arguments that name a table of string ids (without titles)."""
    path = tmp_path_factory.mktemp("data") / "table.csv"
    return make_csv(path, strings=True)[:-2]


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory, data):
    """An `.npz` file of embeddings for all but one item of the table."""
    frame = pd.read_csv(data[1])
    users = np.array(sorted(set(frame["who"])))
    items = np.array(sorted(set(frame["what"])))[1:]
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("model") / "model.npz"
    np.savez(
        path,
        user_ids=users,
        item_ids=items,
        user_embeddings=rng.normal(size=(len(users), 8)),
        item_embeddings=rng.normal(size=(len(items), 8)),
    )
    return path


def run(capsys, *arguments):
    """Exit code, what was printed, and stderr."""
    capsys.readouterr()
    code = main(["audit", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_writes_a_report_and_a_page(data, tmp_path, capsys):
    output = tmp_path / "out"
    code, printed, error = run(capsys, *data, *SMALL, "--output", output)
    assert code == 0 and error == ""
    report = json.loads((output / "audit.json").read_text())
    assert report["command"] == "tfrs-negatives audit"
    assert report["table"]["rows_read"] == report["table"]["rows_used"] == 900
    assert report["table"]["users"] == 30 and "model" not in report
    assert "900 read, 900 used, 0 dropped" in printed
    assert "times: 2017-07-14 02:40:00 to 2017-08-20 13:40:00 UTC\n" in printed
    assert "Recommendations" in printed and str(output) in printed
    page = (output / "audit.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and '"schema_version":1' in page
    # An earlier audit is replaced, anything else stays.
    assert run(capsys, *data, *SMALL, "--output", output)[0] == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "figures.json").write_text('{"command": "tfrs-negatives train"}')
    code, _, error = run(capsys, *data, *SMALL, "--output", other)
    assert code == 2 and "holds something else" in error
    assert sorted(path.name for path in other.iterdir()) == ["figures.json"]


def test_rows_dropped_by_label_and_sizes_left_out_are_told(tmp_path, capsys):
    path = tmp_path / "rows.parquet"
    rng = np.random.default_rng(0)
    columns = {"user": rng.integers(0, 9, 300), "item": rng.integers(0, 20, 300)}
    pd.DataFrame({**columns, "stars": np.arange(300) % 3}).to_parquet(path)
    code, printed, error = run(
        capsys, "--data", path, "--label", "stars", "--output", tmp_path / "out",
        "--verbose", "0", "--batch-sizes", "20", "1000",
    )  # fmt: skip
    assert code == 0
    assert "300 read, 200 used, 100 dropped by label" in printed
    assert "left out: [1000]" in error and len(error.splitlines()) == 1


def test_progress_is_shown(data, tmp_path, capsys):
    code, printed, _ = run(
        capsys, *data, "--batch-sizes", "32", "--output", tmp_path / "out"
    )
    assert code == 0 and "3/3" in printed


def test_embeddings(data, embeddings, tmp_path, capsys):
    output = tmp_path / "out"
    code, printed, error = run(
        capsys, *data, *SMALL, "--model", embeddings, "--temperature", "0.5",
        "--probes", "25", "--output", output,
    )  # fmt: skip
    assert code == 0 and error == ""
    model = json.loads((output / "audit.json").read_text())["model"]
    assert model["temperature"] == 0.5 and model["probes"] == 25
    assert model["items_with_scores"] == 39  # Of 40.
    assert "mined at ranks" in printed


def test_the_temperature_of_embeddings_is_read_beside_them(
    data, embeddings, tmp_path, capsys
):
    path = tmp_path / "embeddings.npz"
    path.write_bytes(embeddings.read_bytes())
    words = [*data, *SMALL, "--model", path, "--probes", "25"]
    output = tmp_path / "out"
    code, _, error = run(capsys, *words, "--output", output)
    assert code == 0 and "does not say at which temperature" in error
    settings = {"settings": {"temperature": 0.25}}
    (tmp_path / "figures.json").write_text(json.dumps(settings))
    code, _, error = run(capsys, *words, "--output", output)
    assert code == 0 and error == ""
    model = json.loads((output / "audit.json").read_text())["model"]
    assert model["temperature"] == 0.25


def test_trained_output(data, trained, tmp_path, capsys):
    """A model of `train`, its temperature and its scores."""
    output = tmp_path / "out"
    code, _, error = run(
        capsys, *data, *SMALL, "--model", trained[0], "--output", output
    )
    assert code == 0 and error == ""
    model = json.loads((output / "audit.json").read_text())["model"]
    assert model["temperature"] == 0.15
    # What was learned: users of one taste do not take items of the other.
    bands = model["hard"]["all"]
    rates = [band["false_negative_rate"] for band in bands]
    assert rates[0] > max(0.7, 1.2 * rates[-1])
    code, _, error = run(
        capsys, *data, *SMALL, "--model", trained[0] / "model", "--output", output
    )
    assert code == 0 and "does not say at which temperature" in error


def test_an_export_and_its_embeddings_give_the_same_scores(tmp_path, data):
    import tensorflow as tf

    from tfrs_negatives import audit, index
    from tfrs_negatives._keras import keras

    table = audit.read_table(
        data[1], user="who", item="what", request="basket", for_model=True
    )
    frame = pd.read_csv(data[1])
    users, items = np.unique(frame["who"]), np.unique(frame["what"])[2:]
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(len(users) + 1, 4)).astype(np.float32)
    candidates = rng.normal(size=(len(items), 4)).astype(np.float32)
    tower = keras.Sequential(
        [
            keras.layers.StringLookup(vocabulary=users.astype(str).tolist()),
            keras.layers.Embedding(len(vectors), 4),
        ]
    )
    tower(tf.constant(["u1"]))
    tower.layers[1].set_weights([vectors])
    built = index.BruteForce().index(candidates, tf.constant(items.astype(str)))
    index.export_retrieval(
        str(tmp_path / "export"),
        tower,
        built,
        query_signature=tf.TensorSpec([None], tf.string, name="user"),
    )
    np.savez(
        tmp_path / "model.npz",
        user_ids=users.astype(str),
        item_ids=items.astype(str),
        user_embeddings=vectors[1:],
        item_embeddings=candidates,
    )
    exported = audit.load_model(tmp_path / "export", table)
    embedded = audit.load_model(tmp_path / "model.npz", table)
    rows = np.array([7, 0, 7, 21])
    np.testing.assert_allclose(
        exported.scores(rows), embedded.scores(rows), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(exported.knows_item, embedded.knows_item)
    assert exported.knows_item.sum() == len(items) == table.num_items - 2
    # By hand: the first row's user and item.
    user, item = frame["who"][0], frame["what"][0]
    if item in items:
        place = list(items).index(item)
        expected = vectors[1 + list(users).index(user)] @ candidates[place]
        found = embedded.scores(table.user[:1])[0, table.item[0]]
        assert found == pytest.approx(expected, rel=1e-5)


def save(path, **changes):
    arrays = {
        "user_ids": np.array(["u1", "u2"]),
        "item_ids": np.array(["i1", "i2", "i3"]),
        "user_embeddings": np.ones((2, 4)),
        "item_embeddings": np.ones((3, 4)),
        **changes,
    }
    np.savez(
        path, **{name: value for name, value in arrays.items() if value is not None}
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"item_ids": None}, "received none named item_ids"),
        ({"item_embeddings": np.ones((3, 5))}, "received the shapes"),
        ({"user_embeddings": np.full((2, 4), np.nan)}, "must be finite"),
        ({"user_ids": np.array(["a", "b"])}, "at least 1 of the 30 users"),
        ({"item_ids": np.array(["a", "b", "i3"])}, "at least 2 of the 40 items"),
        ({"user_ids": np.array([{}, {}], object)}, "cannot be read"),
    ],
)
def test_bad_embeddings_in_one_line(data, tmp_path, capsys, changes, message):
    save(tmp_path / "model.npz", **changes)
    output = tmp_path / "out"
    code, _, error = run(
        capsys, *data, *SMALL, "--model", tmp_path / "model.npz", "--output", output
    )
    assert code == 2 and message in error and len(error.splitlines()) == 1
    assert not output.exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--batch-sizes", "1"], "whole number of at least 2"),
        (["--batch-sizes", "5000"], "at most 900 rows"),
        (["--orders", "sorted"], "invalid choice"),
        (["--temperature", "0.5"], "belongs to --model"),
        (["--model", "nowhere"], "holds no exported model"),
        (["--model", "nowhere.npz"], "cannot be read"),
        (["--item", "thing"], "must have a item column 'thing'"),
        (["--tfds", "movielens"], "expected one source"),
    ],
)
def test_mistakes_in_one_line(data, tmp_path, capsys, arguments, message):
    output = tmp_path / "out"
    code, _, error = run(capsys, *data, "--output", output, *arguments)
    assert code == 2 and message in error and len(error.splitlines()) == 1
    assert not output.exists()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.assign(who=d["who"].mask(d.index == 7)), "1 nulls"),
        (lambda d: d.assign(basket=d["basket"].mask(d.index == 7)), "1 nulls"),
        (lambda d: d.assign(who="ann"), "at least 2 users"),
        (lambda d: d.assign(who=0.5), "whole numbers or strings"),
    ],
)
def test_bad_tables_in_one_line(data, tmp_path, capsys, change, message):
    path, output = tmp_path / "rows.parquet", tmp_path / "out"
    change(pd.read_csv(data[1])).to_parquet(path)
    code, _, error = run(capsys, "--data", path, *data[2:], "--output", output)
    assert code == 2 and message in error and len(error.splitlines()) == 1
    assert not output.exists()
