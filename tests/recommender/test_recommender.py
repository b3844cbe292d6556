"""The recommender: trained, asked, exported; and what it refuses."""

import dataclasses
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from grids import only_under, some_of

from tfrs_negatives import Recommender, data
from tfrs_negatives.data import row_buckets
from tfrs_negatives.index import BruteForce, load_retrieval
from tfrs_negatives.recommender import Settings, Source

SMALL = {"dim": 8, "batch_size": 64, "epochs": 6, "patience": 2}


def two_tastes(num_rows=900):
    """Even users take even items, odd ones odd."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, 30, num_rows)
    item = 2 * rng.integers(0, 20, num_rows) + user % 2
    return {
        "user": [f"u{u}" for u in user],
        "item": [f"i{i}" for i in item],
        "when": 1_500_000_000 + 3_600 * np.arange(num_rows),
        "title": [f"Thing {i}" for i in item],
        "age": user % 2 * 40 + user,
        "kind": [f"a|{'even' if i % 2 == 0 else 'odd'}" for i in item],
    }


@pytest.fixture(scope="module")
def fitted():
    features = {"user_features": ("age",), "item_features": ("kind",)}
    recommender = Recommender(**SMALL, **features)
    return recommender.fit(two_tastes(), time="when", title="title", verbose=0)


def taste(suggestions):
    return [int(one.item[1:]) % 2 for one in suggestions]


def has(user):
    table = two_tastes()
    return {i for u, i in zip(table["user"], table["item"], strict=True) if u == user}


def test_figures_are_of_the_held_out_rows(fitted):
    # Half of the 40 items are of the other taste; chance is 10 of about 28 unseen.
    assert fitted.figures["recall@10"] > 0.6
    assert len(fitted.fitted.curve) >= fitted.epochs >= 1
    # What is asked has seen all rows, but for those of an item that a user had before.
    table = two_tastes()
    pairs = set(zip(table["user"], table["item"], strict=True))
    assert len(fitted.towers.training.rows) == len(pairs)
    assert fitted.towers.training.item_counts.sum() == 900


def test_suggestions_are_what_the_user_has_not(fitted):
    for user in ("u3", "u4"):
        found = fitted.recommend(user, 5)
        assert not {one.item for one in found} & has(user)
        assert all(one.title == f"Thing {one.item[1:]}" for one in found)
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True)
        everything = fitted.recommend(user, 100, keep_history=True)
        assert len(everything) == 40
        assert len(fitted.recommend(user, 100)) == 40 - len(has(user))


def test_a_new_user_is_known_by_what_they_did(fitted):
    for parity in (0, 1):
        history = [f"i{parity + 2 * n}" for n in range(8)]
        for user in (None, "nobody of the data"):
            found = fitted.recommend(user, 6, history=[*history, "no such item"])
            assert np.mean([one == parity for one in taste(found)]) > 0.6
            assert not {one.item for one in found} & set(history)
    assert len(fitted.recommend(k=3)) == 3


def test_a_new_item_is_known_by_its_features(fitted):
    new = {"item": ["new", "newer"], "kind": ["a|even", "a|odd"]}
    vectors = fitted.towers.item.embed(new)
    users = fitted.towers.embed_users()
    are_even = [int(one[1:]) % 2 == 0 for one in fitted.towers.training.user_ids]
    scores = users @ vectors.T
    prefers_even = scores[:, 0] > scores[:, 1]
    assert np.mean(prefers_even == np.array(are_even)) > 0.7


def test_popularity_is_a_dial(fitted):
    training = fitted.towers.training
    log_q = np.log(training.item_counts / training.item_counts.sum())
    ids = training.item_ids.tolist()
    plain = {s.item: s.score for s in fitted.recommend("u3", 40)}
    for beta in (0.5, 1.0, -0.5):
        found = fitted.recommend("u3", 40, popularity_discount=beta)
        for one in found:
            taken = beta * fitted.towers.temperature * log_q[ids.index(one.item)]
            assert one.score == pytest.approx(plain[one.item] - taken, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"index": BruteForce()}, id="saved"),
        pytest.param(
            {"live": True},
            id="live",
            marks=pytest.mark.slow(reason="the same of the other form of export"),
        ),
    ],
)
def test_the_export_answers_as_the_recommender_does(fitted, tmp_path, options):
    model = load_retrieval(fitted.export(tmp_path / "model", **options))
    users = ["u3", "u4", "nobody"]

    def answers(**inputs):
        found = model.signatures["serving_default"](
            user=tf.constant(users), k=tf.constant(6), **inputs
        )
        return {name: value.numpy() for name, value in found.items()}

    def check(found, **options):
        for row, user in enumerate(users):
            wanted = fitted.recommend(user, 6, **options)
            items = [one.decode() for one in found["ids"][row]]
            assert items == [one.item for one in wanted]
            assert [t.decode() for t in found["title"][row]] == [
                one.title for one in wanted
            ]
            np.testing.assert_allclose(
                found["scores"][row], [one.score for one in wanted], atol=1e-5
            )

    check(answers())
    check(answers(popularity_discount=0.7), popularity_discount=0.7)
    check(answers(exclude_history=False), keep_history=True)
    history = ["i1", "i7", "i9"]
    given = answers(history=tf.constant([[*history, "?"]] * 3))
    # What a known user has is left out too.
    for row, user in enumerate(users):
        every = fitted.recommend(user, 40, history=history, keep_history=True)
        wanted = [s.item for s in every if s.item not in {*history, *has(user)}][:6]
        assert [one.decode() for one in given["ids"][row]] == wanted
    # A row without known items is of the training data.
    mixed = answers(history=tf.constant([history, ["?", "", "no"], history]))
    assert mixed["ids"][1].tolist() == answers()["ids"][1].tolist()
    assert mixed["ids"][0].tolist() == given["ids"][0].tolist()
    model.release()


def test_features_of_items_are_attributes(fitted, tmp_path):
    path = fitted.export(tmp_path / "model", live=True)
    model = load_retrieval(path, writable=True)
    serve = model.signatures["serving_default"]
    assert model.description["attributes"] == {"kind": "set"}

    def answer(**inputs):
        found = serve(user=tf.constant(["u3"]), k=40, exclude_history=False, **inputs)
        filled = np.isfinite(found["scores"].numpy()[0])
        return [one.decode() for one in found["ids"].numpy()[0][filled]]

    for kind, rest in (("even", 0), ("odd", 1)):
        every = fitted.recommend("u3", 40, keep_history=True)
        wanted = [one.item for one in every if int(one.item[1:]) % 2 == rest]
        assert answer(where=f'"a" in kind and "{kind}" in kind') == wanted
    # A new item, with the vector of one that there is.
    best = fitted.recommend("u3", 1, keep_history=True)[0].item
    number = fitted.towers.training.item_ids.tolist().index(best)
    model.upsert(
        ["new"],
        fitted.towers.embed_items()[number : number + 1],
        payload={"title": ["New"]},
        attributes={"kind": [["new"]]},
        popularity=[-1.0],
    )
    assert answer(where='"new" in kind') == ["new"]
    assert set(answer()[:2]) == {"new", best}
    model.release()
    with pytest.raises(ValueError, match="an index of their own"):
        fitted.export(tmp_path / "other", live=True, index=BruteForce())


@pytest.mark.slow(reason="trains three models")
def test_equal_seeds_give_equal_models(fitted):
    settings = dataclasses.replace(fitted.settings, epochs=1)
    found = []
    for seed in (0, 0, 1):
        one = Recommender(settings, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            source = Source(table=two_tastes(), columns={"time": "when"})
            parts = one.split(source, folder)
            figures = one.evaluate(parts, one.features(source))
        found.append((figures, one.towers.embed_items()))
    assert found[0][0] == found[1][0] != found[2][0]
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)
    assert np.abs(found[0][1] - found[2][1]).max() > 0.1


ONCE = {"patience": None, "epochs": 1}
RECIPES = [
    {"query": "history", "num_negatives": 16, "history": 4, **ONCE},
    {"query": "history", "num_negatives": 16, "history": 4},
    {"history": 0, "num_negatives": 16, **ONCE},
    {"history": 0, "num_negatives": 0, "patience": None, "epochs": 2},
]


@only_under(keras_3=True, reason="other models are fast under Keras 2")
@pytest.mark.parametrize(
    "options", some_of(RECIPES, RECIPES[:1], reason="trains two models more")
)
def test_other_recipes(options, monkeypatch, tmp_path):
    # Rows are on disk, as those of large tables are.
    monkeypatch.setattr(row_buckets, "HELD_ROWS", 100)
    recommender = Recommender(**{**SMALL, **options})
    table = two_tastes()
    recommender.fit(table, time="when", verbose=0)
    assert not {one.item for one in recommender.recommend("u3", 100)} & has("u3")
    recommender.export(tmp_path / "model", index=BruteForce())
    queries = recommender.towers.user
    assert bool(queries.histories) == (options.get("history") != 0)
    assert (queries.id_feature is None) == (options.get("query") == "history")
    if "patience" in options:
        assert recommender.epochs == options["epochs"]
        assert recommender.fitted.curve == ()


def test_tables_of_any_kind(tmp_path):
    table = two_tastes(200)
    lines = ["user,item,when"]
    columns = table["user"], table["item"], table["when"]
    lines += [f"{u},{i},{t}" for u, i, t in zip(*columns, strict=True)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines))
    named = {"time": "when"}
    recommender, found = Recommender(), []
    for source in (
        Source(
            table={name: table[name] for name in ("user", "item", "when")},
            columns=named,
        ),
        Source(path=path, columns=named),
        Source(table=data.interactions(path, time="when")),
    ):
        training = recommender.split(source, tmp_path).training
        rows = np.concatenate(list(training.rows.windows()))
        items = training.histories.latest(np.arange(len(training.user_ids))).to_list()
        columns = (rows[name].tolist() for name in ("row", "user", "item"))
        found.append((training.item_ids.tolist(), items, *columns))
    assert found[0] == found[1] == found[2]


@pytest.mark.slow(reason="two trainings; test_time_split.py has the split itself")
def test_a_split_of_ones_own(tmp_path):
    """Figures are of its rows, features come from both tables, all of it is served."""
    table = two_tastes(600)
    is_held_out = np.arange(600) % 5 == 0
    is_held_out |= np.isin(table["item"], ["i7"]) | np.isin(table["user"], ["u9"])
    train, held_out = (
        {
            n: [c for c, one in zip(of, rows, strict=True) if one]
            for n, of in table.items()
        }
        for rows in (~is_held_out, is_held_out)
    )
    options = {**SMALL, **ONCE, "item_features": ("kind",)}
    recommender = Recommender(**options)
    columns = {"time": "when", "title": "title"}
    recommender.fit(train, held_out=held_out, verbose=0, **columns)
    source = Source(table=train, held_out=held_out, columns=columns)
    parts = recommender.split(source, tmp_path)
    assert parts.num_new_users == 1
    assert "i7" not in parts.training.item_ids
    assert "i7" in recommender.towers.training.item_ids
    known = source.features((), ("kind",)).of_items(np.array(["i7", "i8"], object))
    assert known.column("kind").to_pylist() == ["a|odd", "a|even"]
    assert len(recommender.recommend("u9", 3)) == 3
    again = Recommender(**options).evaluate(parts, recommender.features(source))
    assert again == recommender.figures
    with pytest.raises(ValueError, match="goes with a file or a table"):
        Source(held_out=held_out).held_out_parts()
    with pytest.raises(ValueError, match="one type in both"):
        Source(
            table=train, held_out={**held_out, "kind": [1] * len(held_out["kind"])}
        ).features((), ("kind",))


def test_the_temperature_goes_by_the_number_of_rows():
    assert Settings().chosen(199_999, True).temperature == 0.15
    assert Settings().chosen(200_000, False).temperature == 0.1
    assert Settings(temperature=0.3).chosen(10**9, True).temperature == 0.3


def test_a_table_is_no_path():
    with pytest.raises(ValueError, match="received a dict. Pass a table .* `table=`"):
        Source({"user": [1], "item": [2]})


def test_epochs_and_unknown_users_go_by_whether_there_are_histories():
    histories, none = (Settings().chosen(1000, has) for has in (True, False))
    assert (histories.epochs, histories.unknown_share) == (10, 0.2)
    assert (none.epochs, none.unknown_share) == (15, 0.0)
    assert (histories.learning_rate, none.learning_rate) == (0.01, 0.005)
    given = Settings(epochs=3, unknown_share=0.0)
    for has in (True, False):
        chosen = given.chosen(1000, has)
        assert (chosen.epochs, chosen.unknown_share) == (3, 0.0)
        assert chosen.chosen(10**9, not has) == chosen


def test_what_is_left_to_the_table_stays_so(fitted):
    """Another table, fitted later, chooses anew."""
    assert fitted.settings.temperature is None
    assert fitted.towers.temperature == 0.15


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"query": "basket"}, "query"),
        ({"query": "history", "history": 0}, "needs a history"),
        ({"epochs": 0}, "epochs"),
        ({"dim": None}, "dim"),
        ({"batch_size": None}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"unknown_share": 1.0}, "unknown_share"),
        ({"unknown_share": -0.1}, "unknown_share"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"width": 3}, "width"),
        ({"settings": Settings(), "dim": 3}, "both"),
    ],
)
def test_wrong_options(options, expected):
    with pytest.raises((ValueError, TypeError), match=expected):
        Recommender(**options)


def test_asked_before_it_was_fitted(tmp_path):
    recommender = Recommender()
    for ask in (recommender.recommend, lambda: recommender.export(tmp_path)):
        with pytest.raises(ValueError, match="`fit` first"):
            ask()


def test_wrong_tables():
    table = two_tastes(60)
    for columns, options, expected in (
        ({"user": "who"}, {}, "'who'"),
        ({"basket": "request"}, {}, "basket"),
        ({"time": "when"}, {"user_features": ("salary",)}, "'salary'"),
        ({"time": "when"}, {"item_features": ("kind", "kind:text")}, "twice"),
    ):
        with pytest.raises(ValueError, match=expected):
            Recommender(**SMALL, **options).fit(table, verbose=0, **columns)
    with pytest.raises(ValueError, match="`items=`"):
        interactions = data.Interactions(
            *(np.arange(4) for _ in range(4)), label=np.ones(4)
        )
        Source(table=interactions).features((), ("kind",))
