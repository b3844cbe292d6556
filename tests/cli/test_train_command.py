"""`tfrs-negatives train` in process: outputs, fairness, and refusals."""

import json
import os

import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from grids import HAS_SCANN

from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.cli import comparison, main, row_names

FAST = ["--batch-size", "64", "--epochs", "2", "--dim", "8", "--verbose", "0"]


def files(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*"))


def test_writes_figures_plot_and_model(trained):
    folder, _ = trained
    found = {name for name in files(folder) if "/" not in name}
    assert found == {
        "figures.json", "figures.png", "manifest.json", "model", "report.html",
    }  # fmt: skip
    assert files(folder.parent)[0] == "out"  # No sibling left behind.
    assert matplotlib.image.imread(folder / "figures.png").ndim == 3

    written = json.loads((folder / "figures.json").read_text())
    assert written["command"] == "tfrs-negatives train"
    # All items are in training, of head and tail.
    *dial, trained_on = written["notes"]
    chosen = written["popularity"]["chosen"]
    assert len(dial) == 1
    assert f"the suggestion is --popularity-discount {chosen:g}" in dial[0]
    assert trained_on == (
        "note: figures are of a model trained without the held-out rows; model/ is "
        f"trained on all rows (epochs: {written['model']['epochs']})."
    )
    assert written["settings"]["seeds"] == [4, 7]
    assert written["model"] == {
        "trained as": "ours",
        "trained on": "all rows",
        "epochs": written["model"]["epochs"],
        "seed": 7,
        "index": "ScaNN" if HAS_SCANN else "BruteForce",
    }
    for model in row_names.MODELS:
        curves = written["validation"][model]
        assert len(curves) == 2
        assert all(1 <= len(curve) <= 3 for curve in curves)
    assert 1 <= written["model"]["epochs"] <= 3
    assert written["data"]["users"] == 30
    assert written["data"]["items"] == 40
    assert written["data"]["interactions"] == 900
    assert written["seconds"] > 0 and written["peak memory, MiB"] > 100
    names = [
        "recall@10", "recall@50", "recall@100", "ndcg@10", "mrr@100", "head recall@50",
        "tail recall@50", "coverage@10", comparison.SECONDS, comparison.STEP_TIME,
        comparison.ROWS_A_SECOND, comparison.WIDTH, comparison.BEFORE, comparison.AFTER,
    ]  # fmt: skip
    for model in row_names.MODELS:
        assert list(written["figures"][model]) == names
        for name in names:
            values = written["figures"][model][name]["by_seed"]
            assert len(values) == 2 and all(0 <= v < np.inf for v in values)
            assert written["figures"][model][name]["mean"] == np.mean(values)
    before = written["figures"]["ours"][comparison.BEFORE]["mean"]
    assert written["figures"]["ours"][comparison.AFTER]["mean"] < before
    assert written["figures"]["TFRS"][comparison.AFTER]["mean"] == before


def test_prints_the_table_of_those_figures(trained):
    folder, printed = trained
    figures = json.loads((folder / "figures.json").read_text())["figures"]
    assert comparison.table(figures, [4, 7]) in printed
    assert "held-out pairs: " in printed
    assert "times: 2017-07-14 02:40:00 to 2017-08-20 13:40:00 UTC\n" in printed
    assert "recall@50, seed 4" in printed
    assert "of rows of the same time, a row's history has: " in printed
    assert "share of rows trained as rows of an unknown user: 0.2\n" in printed
    assert "rows read" not in printed  # Written over and over: for terminals alone.
    assert "Peak memory: " in printed
    assert "tfrs-negatives query" in printed


def test_costs_and_coverage_of_what_has_no_vectors(trained):
    figures = json.loads((trained[0] / "figures.json").read_text())["figures"]
    for name in row_names.OTHERS + (row_names.OURS,):
        is_model = name in row_names.MODELS
        width = figures[name][comparison.WIDTH]["mean"]
        assert width == (8 if is_model else None)
        assert 0 < figures[name]["coverage@10"]["mean"] <= 1
        assert 0 < figures[name]["mrr@100"]["mean"] <= 1


def test_ends_in_the_table_an_answer_and_the_report(trained):
    folder, printed = trained
    lines = printed.splitlines()
    [answer] = [n for n, line in enumerate(lines) if line.startswith("Recommendations")]
    [wrote] = [n for n, line in enumerate(lines) if line.startswith("Wrote ")]
    assert lines.index(next(n for n in lines if "recall@10 " in n)) < answer < wrote
    assert lines[answer] == (
        "Recommendations of our model for user u0, without the items that the user has:"
    )
    assert lines[answer + 1].split() == ["rank", "id", "title", "score", "(cosine)"]
    for place, line in enumerate(lines[answer + 2 : answer + 12], start=1):
        rank, item, thing, number, score = line.split()
        assert (int(rank), thing, f"i{number}") == (place, "Thing", item)
        assert -1 < float(score) <= 1
    assert lines[-1] == f"Open {folder}/report.html in a browser."


def test_libraries_are_quiet(trained):
    # TensorFlow was loaded by the tests, before the command could silence it.
    told = (trained[0].parent / "stderr.txt").read_text()
    assert "partition" not in told and "absl" not in told


def test_learns_the_tastes(trained):
    # Half of the 40 items are of the other taste; chance is 10 of about 28 unseen.
    figures = json.loads((trained[0] / "figures.json").read_text())["figures"]
    assert figures["ours"]["recall@10"]["mean"] > 0.6


def test_exported_scores_are_those_of_the_towers(trained):
    if HAS_SCANN:
        from scann import scann_ops  # noqa: F401  Registers its operations.

    model = tf.saved_model.load(str(trained[0] / "model"))
    answer = model.signatures["serving_default"](
        user=tf.constant([f"u{user}" for user in range(30)]),
        history=tf.constant([[]], tf.string),
        k=tf.constant(15),
        exclude_history=tf.constant([False]),
        popularity_discount=tf.constant([0.0]),
    )
    ids = [[i.decode() for i in row] for row in answer["ids"].numpy()]
    titles = [[t.decode() for t in row] for row in answer["title"].numpy()]
    assert titles == [[f"Thing {i[1:]}" for i in row] for row in ids]
    # Of all users: one alone may have learned little in three epochs.
    own = [[int(i[1:]) % 2 == user % 2 for i in row] for user, row in enumerate(ids)]
    assert np.mean(own) > 0.8
    scores = answer["scores"].numpy()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (np.abs(scores) <= 1.0001).all()  # Cosines.


@pytest.fixture
def parts(tmp_path, make_csv):
    from tfrs_negatives.recommender import Source
    from tfrs_negatives.recommender.time_split import split

    make_csv(tmp_path / "table.csv")
    columns = {"user": "who", "item": "what", "time": "seconds"}
    return split(Source(tmp_path / "table.csv", columns=columns).parts(), tmp_path)


def test_all_models_start_alike_and_see_the_same_batches(keras_2, parts):
    from tfrs_negatives.recommender import Settings, recipe, training_batches
    from tfrs_negatives.recommender.towers_of import FeatureTables, Towers

    settings, training = Settings(dim=8, hidden=(12,), num_negatives=5), parts.training
    first, second, other = (
        Towers(training, FeatureTables(), settings, seed) for seed in (3, 3, 4)
    )
    pairs = 0
    for one in ("user", "item"):
        weights = [
            getattr(towers, one).get_weights() for towers in (first, second, other)
        ]
        for mine, same, differs in zip(*weights, strict=True):
            np.testing.assert_array_equal(mine, same)
            pairs += np.abs(mine - differs).max() > 0
    assert pairs >= 8  # Embeddings, dense layers, the attention.

    rows = training_batches.dataset(training, 100, seed=3)
    with_inputs = recipe.with_inputs(
        training_batches.dataset(training, 100, seed=3), training, first, settings, 3
    )
    for one, more in zip(rows, with_inputs, strict=True):
        for name in ("user", "item", "request"):
            np.testing.assert_array_equal(one[name], more[name])
        assert one["history"].to_list() == more["history"].to_list()
        assert more["negatives"]["item"].shape == [5]
        positives = more["known_positives"]
        for item, all_of_user in zip(one["item"].numpy(), positives, strict=True):
            assert item in all_of_user.numpy()


def test_keys_are_requests_too_only_where_users_share_them(keras_2, tmp_path):
    from tfrs_negatives.recommender import Settings, Source
    from tfrs_negatives.recommender.recipe import Recipe
    from tfrs_negatives.recommender.time_split import split

    lines = ["user,item,own,shared"]
    lines += [f"{n % 4},{n % 41},{n % 4}-{n // 8},{n // 8}" for n in range(60)]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    for column, keys in (("own", ()), ("shared", ("request",))):
        source = Source(tmp_path / "table.csv", columns={"request": column})
        training = split(source.parts(), tmp_path).training
        assert Recipe.of(training, Settings()).query_keys == keys
        # Too many rows to hold what each user has.
        with pytest.MonkeyPatch.context() as context:
            context.setattr("tfrs_negatives.recommender.recipe.HELD_IN_MEMORY", 10)
            assert Recipe.of(training, Settings()).query_keys == ("user", *keys)


@pytest.mark.slow(reason="trains the main job twice")
def test_options_seeds_and_a_second_run_into_the_same_folder(
    keras_2, tmp_path, make_csv, capsys
):
    data = make_csv(tmp_path / "table.csv")

    def figures(name, *options):
        out = ["--output", str(tmp_path / name), "--seeds", "5"]
        assert main(["train", *data, *FAST, *out, *options]) == 0
        return json.loads((tmp_path / name / "figures.json").read_text())

    options = ["--hidden", "8", "--num-negatives", "0", "--validation"]
    other, first, second = figures("a", *options), figures("a"), figures("b")
    assert files(tmp_path)[0] == "a"
    assert {name.split("/")[0] for name in files(tmp_path)} == {"a", "b", "table.csv"}

    assert other["settings"]["hidden"] == [8]
    assert first["settings"]["hidden"] == []
    train, fewer = (f["data"]["training interactions"] for f in (first, other))
    assert 0.75 * train < fewer < 0.85 * train

    # The same seed gives the same figures, apart from the time.
    for model in row_names.MODELS:
        for run in (first, second):
            del run["figures"][model][comparison.SECONDS]
            del run["figures"][model][comparison.STEP_TIME]
            del run["figures"][model][comparison.ROWS_A_SECOND]
        assert first["figures"][model] == second["figures"][model]
    assert first["figures"]["ours"] != first["figures"]["TFRS"]
    capsys.readouterr()


@pytest.mark.slow(reason="trains every model again")
def test_what_large_tables_leave_out(keras_2, tmp_path, make_csv, capsys):
    data = make_csv(tmp_path / "table.csv", strings=True)
    few = ["--baselines", "--no-index", "--steps-per-epoch", "7"]
    few += ["--evaluate-users", "9", "--seeds", "3"]
    output = tmp_path / "out"
    assert main(["train", *data, *FAST, *few, "--output", str(output)]) == 0
    assert files(output) == [
        "embeddings.npz", "figures.json", "figures.png", "manifest.json", "report.html",
    ]  # fmt: skip
    written = json.loads((output / "figures.json").read_text())
    assert list(written["figures"]) == ["ours"]
    assert written["model"] == {
        "trained as": "ours",
        "trained on": "all rows",
        "epochs": written["model"]["epochs"],
        "seed": 3,
        "index": None,
    }
    assert written["data"]["users evaluated"] == 9
    assert written["notes"][0].startswith("note: figures are of 9 of 23 users")
    assert written["settings"]["steps_per_epoch"] == 7
    printed = capsys.readouterr().out
    assert "TFRS" not in printed
    assert "embeddings.npz" in printed

    with np.load(output / "embeddings.npz", allow_pickle=False) as arrays:
        assert arrays["user_ids"].tolist() == sorted(f"u{u}" for u in range(30))
        assert arrays["item_ids"].tolist() == sorted(f"i{i}" for i in range(40))
        for what, num in (("user", 30), ("item", 40)):
            embeddings = arrays[f"{what}_embeddings"]
            assert embeddings.shape == (num, 8)
            np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    audit = ["--model", str(output / "embeddings.npz"), "--temperature", "0.15"]
    audit += ["--batch-sizes", "64", "--max-batches", "2", "--probes", "5"]
    audit += ["--output", str(tmp_path / "audit"), "--verbose", "0"]
    title = data.index("--title")
    assert main(["audit", *data[:title], *data[title + 2 :], *audit]) == 0


@pytest.mark.slow(reason="trains a model more")
def test_items_that_can_change(keras_2, tmp_path, make_csv, capsys):
    data = make_csv(tmp_path / "table.csv", strings=True)
    few = ["--baselines", "--live", "--seeds", "0", "--item-features", "name:category"]
    output = tmp_path / "out"
    assert main(["train", *data, *FAST, *few, "--output", str(output)]) == 0
    written = json.loads((output / "figures.json").read_text())
    assert written["model"]["index"] == "LiveIndex"
    capsys.readouterr()
    words = ["query", str(output), "--user", "u3", "--keep-history"]
    assert main([*words, "--where", 'name in ["Thing 4", "Thing 7"]']) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert sorted(row.split()[1] for row in rows) == ["i4", "i7"]


@pytest.mark.slow(reason="trains a model as test_a_split_of_ones_own does")
def test_rows_to_hold_out_may_be_given(keras_2, bad_files, capsys):
    rows = "".join(f"{n % 6},{n % 41}\n" for n in range(30))
    (bad_files / "test.csv").write_text("user,item\n" + rows)
    arguments = ["--data", "good.csv", "--held-out", "test.csv", "--no-index"]
    few = [*FAST, "--baselines", "popularity", "--output", "out", "--seeds", "0"]
    assert main(["train", *arguments, *few]) == 0
    assert "held-out users never in training: 1" in capsys.readouterr().out
    written = json.loads((bad_files / "out" / "figures.json").read_text())
    assert written["data"]["interactions"] == 90
    assert written["settings"]["held_out"] == "test.csv"


def test_epochs_of_steps_go_on_in_the_rows(keras_2, parts):
    from tfrs_negatives.cli import tfrs_models
    from tfrs_negatives.recommender import Settings, fitting, training_batches
    from tfrs_negatives.recommender.towers_of import FeatureTables, Towers

    settings = Settings(dim=4, batch_size=64, steps_per_epoch=4, epochs=5)
    training = parts.training
    towers = Towers(training, FeatureTables(), settings, 0)
    model = tfrs_models.plain_model(towers)
    seen = []
    compute_loss = model.compute_loss

    def noted(features, training=False):
        tf.numpy_function(lambda item: seen.append(item), [features["item"]], [])
        return compute_loss(features, training)

    model.compute_loss = noted
    fitting.fit(model, training, towers, settings, 0)
    rows = training_batches.dataset(training, 64, 0).repeat()
    wanted = [batch["item"].numpy() for batch in rows.take(20)]
    assert training_batches.num_batches(training.rows, 64) < 20
    assert [batch.tolist() for batch in seen] == [batch.tolist() for batch in wanted]


@pytest.mark.slow(reason="trains twice; test_users_of_any_number_are_masked_alike")
def test_ids_of_any_number_are_trained_on_alike(keras_2, tmp_path, monkeypatch, capsys):
    """And a figure that there is none of is null, with its reason."""
    monkeypatch.setattr("tfrs_negatives.cli.train_command._export", lambda *_: {})
    # All take item 0, then one of their own, and last the next user's or a new one:
    # items 0, 20 and 21 are the head, which nobody takes last.
    last = [900, *range(22, 32), 901]
    rows = [(u, i) for u in range(12) for i in (0, 0, 0, 20 + u, last[u])]
    found = []
    # From 1 on, and from the least number on.
    for shift in (1, -(2**63)):
        lines = ["user,item", *(f"{u + shift},{i + shift}" for u, i in rows)]
        (tmp_path / "table.csv").write_text("\n".join(lines))
        words = ["--data", str(tmp_path / "table.csv"), "--seeds", "0"]
        words += ["--output", str(tmp_path / "out"), "--baselines", "TFRS", "EASE^R"]
        words += ["--no-all-rows"]
        assert main(["train", *words, *FAST]) == 0
        text = (tmp_path / "out" / "figures.json").read_text()
        written = json.loads(text, parse_constant=pytest.fail)
        for of_model in written["figures"].values():
            del of_model[comparison.SECONDS]
            del of_model[comparison.STEP_TIME]
            del of_model[comparison.ROWS_A_SECOND]
        found.append((written["figures"], written["notes"]))
    assert found[0] == found[1]
    figures, notes = found[0]
    assert list(figures) == [row_names.EASE, row_names.PLAIN, row_names.OURS]
    for model in (row_names.PLAIN, row_names.OURS):
        assert figures[model]["head recall@50"]["mean"] is None
        assert figures[model]["recall@50"]["mean"] == pytest.approx(10 / 12)
        assert figures[model]["tail recall@50"]["mean"] == 1
    assert (
        figures["ours"][comparison.AFTER]["mean"]
        < figures["ours"][comparison.BEFORE]["mean"]
    )
    assert "2 of 12 held-out pairs are of items never in training" in notes[0]
    assert "no held-out pair is of an item of the head" in notes[1]
    printed = capsys.readouterr().out
    assert all(note in printed for note in notes)
    assert [c for c in printed.splitlines() if c.startswith("head recall")][0].split()[
        -2:
    ] == ["-", "-"]


BAD = {
    "no file": (["--data", "absent.csv"], "absent.csv"),
    "extension": (["--data", "table.xlsx"], "table.xlsx"),
    "column": (["--data", "table.csv", "--user", "nobody"], "'nobody'"),
    "default column": (["--data", "table.csv"], "'user'"),
    "nulls": (["--data", "nulls.csv"], "1 nulls"),
    "one user": (["--data", "one_user.csv"], "at least 2 users"),
    "one item": (["--data", "one_item.csv"], "at least 2 items"),
    "nothing new": (["--data", "old.csv"], "nothing to evaluate"),
    "no held-out file": (
        ["--data", "good.csv", "--held-out", "absent.csv"],
        "absent.csv",
    ),
    "nothing held out": (
        ["--data", "good.csv", "--held-out", "strangers.csv"],
        "nothing to evaluate on",
    ),
    "tfds": (["--tfds", "movielens/100k-ratings", "--data-dir", "."], "100k-ratings"),
    "output": (["--data", "good.csv", "--output", "full"], "something else"),
    "output file": (["--data", "good.csv", "--output", "good.csv"], "is a file"),
    "diverged": (
        ["--data", "good.csv", "--learning-rate", "1e38", *FAST],
        "diverged",
    ),
}


@pytest.fixture
def bad_files(tmp_path, monkeypatch, make_csv):
    monkeypatch.chdir(tmp_path)
    make_csv(tmp_path / "table.csv")
    good = "".join(f"{n % 5},{n % 47}\n" for n in range(60))
    tables = {
        "good": good,
        "nulls": "1,2\n,3\n2,3\n",
        "one_user": "1,2\n1,3\n",
        "one_item": "1,2\n2,2\n",
        "old": "1,2\n1,2\n2,3\n2,3\n",
        "strangers": "77,2\n78,3\n",
    }
    for name, rows in tables.items():
        (tmp_path / f"{name}.csv").write_text("user,item\n" + rows)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("precious")
    return tmp_path


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(keras_2, bad_files, capsys, case):
    arguments, expected = BAD[case]
    before = files(bad_files)
    output = [] if "--output" in arguments else ["--output", "new/out"]
    assert main(["train", *arguments, *output, "--seeds", "0"]) == 2
    error = capsys.readouterr().err.splitlines()
    error = [line for line in error if line.startswith("tfrs-negatives")]
    assert len(error) == 1
    assert error[0].startswith("tfrs-negatives: error: ")
    assert expected in error[0]
    assert files(bad_files) == before


def test_interrupt_leaves_nothing(keras_2, bad_files, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfrs_negatives.cli.train_command._export", interrupted)
    before = files(bad_files)
    arguments = ["--data", "good.csv", *FAST, "--seeds", "0", "--output", "out"]
    arguments += ["--baselines", "--no-all-rows"]
    assert main(["train", *arguments]) == 130
    assert capsys.readouterr().err.strip().endswith("nothing was written")
    assert files(bad_files) == before


@pytest.mark.skipif(not IS_KERAS_3, reason="trains under Keras 2: see the others")
def test_keras_3_is_a_clear_error(bad_files, capsys):
    before = files(bad_files)
    assert main(["train", "--data", "good.csv", "--output", "out"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert "TF_USE_LEGACY_KERAS" in error[0]
    assert repr(os.environ.get("TF_USE_LEGACY_KERAS")) in error[0]
    assert files(bad_files) == before
