"""`tfrs-negatives query` on exports with popularity and users' histories."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.cli import main
from tfrs_negatives.data import positives_of
from tfrs_negatives.index import (
    BruteForce,
    export_live_retrieval,
    export_retrieval,
    load_retrieval,
)

# Scores of the items a, b, c, d for the users 0 and 1, and the items' log q.
SCORES = np.float32([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
COUNTS = np.array([64, 16, 4, 1])
ITEMS = ["a", "b", "c", "d"]


class Tower(tf.Module):
    """Each user's scores are the embedding, as items are unit vectors."""

    def __init__(self):
        super().__init__()
        self.scores = tf.Variable(SCORES)

    def __call__(self, users):
        # `query` looks at what an id gets that nobody has.
        known = tf.cast(users < 2, tf.float32)[:, tf.newaxis]
        return tf.gather(self.scores, tf.minimum(users, 1)) * known


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    index = BruteForce().index(np.eye(4, dtype=np.float32), ITEMS)
    histories = positives_of({"user": [0, 0], "item": ["a", "c"]})
    for name, options in {
        "plain": {},
        "both": {"popularity": COUNTS, "histories": histories},
    }.items():
        user = tf.TensorSpec([None], tf.int64, name="user")
        export_retrieval(folder / name, Tower(), index, query_signature=user, **options)
    export_live_retrieval(
        folder / "live",
        Tower(),
        ITEMS,
        np.eye(4),
        query_signature=user,
        attributes={"price": [10, 20, 30, None]},
        popularity=COUNTS,
        histories=histories,
    )
    return folder


def ask(capsys, *arguments):
    """Exit code, items and scores, and stderr."""
    capsys.readouterr()
    code = main(["query", *map(str, arguments), "--k", "4"])
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines()[1:]]
    return code, {item: float(score) for _, item, score in rows}, printed.err


def expected(user, discount, without=()):
    scores = SCORES[user] - discount * np.log(COUNTS / COUNTS.sum())
    order = np.argsort(-scores)
    items = {ITEMS[n]: scores[n] for n in order if ITEMS[n] not in without}
    return [*items], pytest.approx(items, abs=1e-4)


@pytest.mark.parametrize("discount", [None, 0, 0.5, 2, -1.5])
def test_popularity_discount(exports, capsys, discount):
    given = [] if discount is None else ["--popularity-discount", discount]
    code, items, error = ask(capsys, exports / "both", "--user", 1, *given)
    order, scores = expected(1, discount or 0)
    assert code == 0 and error == ""
    assert list(items) == order and items == scores


def test_what_a_user_has_is_left_out_unless_asked_for(exports, capsys):
    path = exports / "both"
    assert list(ask(capsys, path, "--user", 0)[1]) == ["b", "d"]
    assert list(ask(capsys, path, "--user", 0, "--exclude", "b")[1]) == ["d"]
    assert list(ask(capsys, path, "--user", 0, "--keep-history")[1]) == ITEMS
    code, items, _ = ask(
        capsys, path, "--user", 0, "--keep-history", "--popularity-discount", 1
    )
    assert code == 0
    assert (list(items), items) == expected(0, 1.0)


def test_a_model_without(exports, capsys):
    code, items, error = ask(
        capsys, exports / "plain", "--user", 0, "--popularity-discount", 0.5
    )
    assert code == 2 and not items and len(error.splitlines()) == 1
    assert "exported without. Leave it out, or export with `popularity=`" in error
    # Nothing is left out there anyway.
    assert (
        list(ask(capsys, exports / "plain", "--user", 0, "--keep-history")[1]) == ITEMS
    )


def test_a_model_of_ids_alone_takes_no_history(exports, capsys):
    code, items, error = ask(capsys, exports / "plain", "--history", "a")
    assert code == 2 and not items and len(error.splitlines()) == 1
    assert "--history needs a model whose queries have histories" in error


@pytest.mark.parametrize("discount", ["nan", "inf", "2e6", "half"])
def test_discounts_that_are_no_moderate_numbers(exports, capsys, discount):
    code, items, error = ask(
        capsys, exports / "both", "--user", 0, "--popularity-discount", discount
    )
    assert code == 2 and not items and len(error.splitlines()) == 1
    assert "--popularity-discount: expected a number from -1000000 to 1000000" in error


def test_a_model_whose_items_change(exports, tmp_path, capsys):
    path = exports / "live"
    assert list(ask(capsys, path, "--user", 0)[1]) == ["b", "d"]
    assert list(ask(capsys, path, "--user", 0, "--where", "price < 25")[1]) == ["b"]
    code, items, error = ask(
        capsys, path, "--user", 1, "--popularity-discount", 2, "--exclude", "a"
    )
    order, scores = expected(1, 2, without="a")
    assert code == 0 and error == ""
    assert list(items) == order and items == scores
    given = ["--user", 1, "--where", "price is missing or price == 30"]
    assert list(ask(capsys, path, *given)[1]) == ["d", "c"]
    # While another process writes.
    shutil.copytree(path, tmp_path / "m")
    model = load_retrieval(tmp_path / "m", writable=True)
    model.delete(["d"])
    assert list(ask(capsys, tmp_path / "m", *given)[1]) == ["c"]
    model.release()


@pytest.mark.parametrize(
    ("model", "where", "message"),
    [
        ("live", "price <", "expected a number or a text"),
        ("live", "size == 3", "size"),
        ("plain", "price < 3", "--where needs a model whose items have attributes"),
    ],
)
def test_bad_filters(exports, capsys, model, where, message):
    code, items, error = ask(capsys, exports / model, "--user", 0, "--where", where)
    assert code == 2 and not items and "Traceback" not in error
    assert message in error
