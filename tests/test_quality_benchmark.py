"""The quality benchmark's evaluator, runner and report."""

import csv
import importlib
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks" / "quality"


@pytest.fixture(scope="module", autouse=True)
def quality():
    """The benchmark's modules, which import each other by their bare names."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def shared_folder(quality, tmp_path, monkeypatch):
    """Nothing is taken from earlier runs, nor left for later ones."""
    import shared_work

    monkeypatch.setattr(shared_work, "FOLDER", tmp_path / "shared")


@pytest.fixture
def split():
    import splits

    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 60, 1500), rng.integers(0, 90, 1500) ** 2 // 90
    pairs = np.unique(np.stack([users, items]), axis=1).astype(np.int32)
    pairs = pairs[:, rng.permutation(pairs.shape[1])]
    train = splits.Interactions(*pairs[:, 300:], num_users=60, num_items=90)
    return splits.Split(train, *pairs[:, :300])


@pytest.fixture
def factors():
    import rankers

    rng = np.random.default_rng(1)
    sizes = (60, 8), (90, 8)
    return rankers.Factors(*(rng.normal(size=s).astype(np.float32) for s in sizes))


def expected(factors, split):
    """Measures by a loop over users, in float64."""
    counts = np.bincount(split.train.items, minlength=90)
    order = np.argsort(-counts, kind="stable")
    bands = {"head": order[:18], "torso": order[18:45], "tail": order[45:]}
    found = {name: [] for name in ("recall", "ndcg", *bands)}
    for user in np.unique(split.test_users):
        wanted = set(split.test_items[split.test_users == user])
        seen = set(split.train.items[split.train.users == user])
        scores = factors.items.astype(np.float64) @ factors.users[user]
        ranked = [item for item in np.argsort(-scores) if item not in seen][:20]
        hits = [item in wanted for item in ranked]
        gain = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        ideal = sum(1 / math.log2(place + 2) for place in range(min(20, len(wanted))))
        found["recall"].append(sum(hits) / len(wanted))
        found["ndcg"].append(gain / ideal)
        for band, items in bands.items():
            of_band = wanted & set(items)
            if of_band:
                found[band].append(len(of_band & set(ranked)) / len(of_band))
    return [np.mean(values) for values in found.values()]


def test_evaluator_equals_a_loop_over_users(split, factors):
    import evaluate
    import rankers

    other = rankers.Scores(lambda users: factors.users[users] @ factors.items.T)
    for ranker in factors, other:
        measures = evaluate.evaluate(ranker, split)
        assert list(measures) == evaluate.MEASURES
        np.testing.assert_allclose(
            list(measures.values()), expected(factors, split), atol=1e-6
        )


def test_evaluator_agrees_with_ir_measures(split, factors):
    pytest.importorskip(
        "ir_measures", reason="needs ir-measures, of the extra `test`, to compare with"
    )
    import evaluate

    ours, theirs = (
        f(factors, split) for f in (evaluate.evaluate, evaluate.of_ir_measures)
    )
    assert set(theirs) == {"recall_at_20", "ndcg_at_20"}
    for measure, value in theirs.items():
        assert ours[measure] == pytest.approx(value, abs=1e-6)


def test_held_out_interactions_are_not_of_training(split):
    import splits

    train = split.train
    with pytest.raises(ValueError, match="among those of training"):
        splits.Split(train, train.users[:1], train.items[:1])


def test_validation_is_taken_from_training_alone(split):
    part = split.validation()
    pairs = sorted(zip(split.train.users, split.train.items, strict=True))
    kept = list(zip(part.train.users, part.train.items, strict=True))
    held_out = list(zip(part.test_users, part.test_items, strict=True))
    assert sorted(kept + held_out) == pairs
    sizes = np.bincount(split.train.users, minlength=60)
    wanted = np.where(sizes >= 3, np.ceil(sizes / 5), 0)
    np.testing.assert_array_equal(np.bincount(part.test_users, minlength=60), wanted)


def test_validation_follows_time_where_the_test_does():
    import splits

    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 20, [2, 600]), axis=1).astype(np.int32)
    times = rng.permutation(pairs.shape[1])
    every = splits.Interactions(*pairs, 20, 20, turn=-times.astype(float))
    split = splits._split(every, splits._fifth(every), every.turn)
    part = split.validation()
    time_of = {(u, i): t for u, i, t in zip(*pairs, times, strict=True)}
    sizes = np.bincount(pairs[0])
    for user in range(20):
        of_user = [
            sorted(time_of[user, item] for item in items[users == user])
            for users, items in (
                (part.train.users, part.train.items),
                (part.test_users, part.test_items),
                (split.test_users, split.test_items),
            )
        ]
        assert sum(map(len, of_user)) == sizes[user] > 10
        assert len(of_user[2]) == sizes[user] // 5
        assert sum(of_user, []) == sorted(sum(of_user, []))


def test_ease_equals_the_closed_form_among_items(split):
    from peers import ease

    matrix = np.zeros([60, 90])
    matrix[split.train.users, split.train.items] = 1
    inverse = np.linalg.inv(matrix.T @ matrix + 30 * np.eye(90))
    weights = np.eye(90) - inverse / np.diag(inverse)
    scores = ease.fit(split.train, {"l2": 30.0}, 0).of(np.arange(60))
    unseen = matrix == 0
    np.testing.assert_allclose(
        scores[unseen], (matrix @ weights)[unseen], rtol=1e-4, atol=1e-5
    )


def test_suggestions_are_shares_of_what_teachers_rank_highest(split, monkeypatch):
    from models import teachers
    from peers import ease

    monkeypatch.setattr(teachers, "NEIGHBOURS", 4)
    monkeypatch.setattr(teachers, "BLOCK", 25)
    setting = {"l2": 30.0, "suggestions": 5, "sharpness": 1.5}
    found = teachers.suggestions(split.train, setting)

    owned = split.train.matrix().toarray().astype(np.float64)
    sizes = [np.maximum(owned.sum(axis), 1) ** -0.5 for axis in (1, 0)]
    matrix = owned * sizes[0][:, None] * sizes[1]
    together = matrix.T @ matrix
    np.fill_diagonal(together, 0)
    together[together < np.sort(together, axis=1)[:, -4:-3]] = 0
    total = np.zeros_like(owned)
    for scores in owned @ together, ease.fit(split.train, setting, 0).of(np.arange(60)):
        best = np.where(owned > 0, 0, np.maximum(scores, 0))
        best[best < np.sort(best, axis=1)[:, -5:-4]] = 0
        total += best**1.5 / (best**1.5).sum(axis=1, keepdims=True)
    total[total < np.sort(total, axis=1)[:, -5:-4]] = 0
    total /= total.sum(axis=1, keepdims=True)
    ours = np.zeros_like(total)
    np.add.at(ours, (np.arange(60)[:, None], found["suggested"]), found["shares"])
    # Of neighbours that tie for the fourth place either may be kept.
    assert np.isclose(ours, total, atol=1e-4).all(axis=1).sum() >= 57
    np.testing.assert_allclose(ours.sum(axis=1), 1, rtol=1e-5)
    assert owned[np.arange(60)[:, None], found["suggested"]].max() == 0


def test_what_runs_share_is_computed_once_and_charged_to_each(tmp_path):
    import costs
    import shared_work

    source, calls = tmp_path / "how.py", []
    source.write_text("first")

    def compute():
        calls.append(sum(range(10**6)))  # Takes some time.
        return {"rows": np.arange(3), "halves": np.array([0.5])}

    def once(array=(1, 2), **options):
        found = shared_work.once(compute, [source], [np.array(array)], **options)
        assert sorted(found) == ["halves", "rows"]
        np.testing.assert_array_equal(found["rows"], [0, 1, 2])
        return shared_work.charges()

    assert once(l2=1.0) == []
    (charge,) = once(l2=1.0)
    assert len(calls) == 1 and charge["cpu_seconds"] > 0 and charge["peak_mib"] > 1
    assert shared_work.charges() == []
    clock = costs.Clock()
    clock.charge({"seconds": 100.0, "cpu_seconds": 90.0, "peak_mib": 1e6})
    clock.charge({"seconds": 10.0, "cpu_seconds": 9.0, "peak_mib": 1.0})
    spent = clock.read()
    assert 110 <= spent["seconds"] < 120 and 99 <= spent["cpu_seconds"] < 109
    assert spent["peak_mib"] == 1e6
    # Other options, arrays or ways are other work.
    assert once(l2=2.0) == [] and once((1, 3), l2=1.0) == []
    source.write_text("second")
    assert once(l2=1.0) == [] and len(calls) == 4


def test_smoothed_towers_learn_a_softmax_over_items_that_a_user_lacks(keras_2, split):
    import tensorflow as tf
    from models import smoothed_towers, teachers

    setting = {"width": 8, "temperature": 0.3, "layers": 2, "share": 0.5}
    setting |= {"users": 13, "taught": 0, "epochs": 1, **smoothed_towers.PARTS}
    owned, counts = split.train.matrix(), split.train.item_counts()
    assert counts.max() > 4 * np.median(counts)
    model = smoothed_towers.SmoothedTowers(
        setting, teachers.symmetric(owned), counts, seed=0
    )
    batch = next(smoothed_towers.batches(owned, setting, 0, {}))
    rng = np.random.default_rng(2)
    queries, items = rng.normal(size=[13, 8]), rng.normal(size=[90, 8])
    given = [tf.constant(x, tf.float32) for x in (queries, items)]
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = model.loss_of_items(*given, batch, training=True)
    found = [tf.convert_to_tensor(g) for g in tape.gradient(loss, given)]

    times = 1 + np.bincount(batch["items"], minlength=90)
    matrix = owned.toarray()
    wanted = [np.zeros_like(queries), np.zeros_like(items)]
    for row, positive in zip(batch["rows"], batch["items"], strict=True):
        weights = np.exp(items @ queries[row])
        lacks = matrix[batch["users"][row]] == 0
        own, others = weights[positive], np.where(lacks, weights, 0)
        # Khrylchenko et al. 2025; of the negatives those that are masked do not count.
        scale = (times.sum() - times[positive]) / times[lacks].sum()
        by_score = others / others.sum()
        by_score[positive] -= 1
        by_score *= 1 - own / (own + scale * others.sum())
        wanted[0][row] += by_score @ items
        wanted[1] += np.outer(by_score, queries[row])
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(
            ours, theirs / len(batch["rows"]), rtol=1e-4, atol=1e-6
        )


def test_served_variants_find_what_exact_search_finds(planted, keras_2):
    pytest.importorskip("scann", reason="needs ScaNN, to search by")
    import evaluate
    from models import served

    setting = {
        "model": "models.two_tower",
        "searches": [{}, {"recall_target": 0.9}],
        "epochs": 15,
        "batch": 50,
        **COMMON,
    }
    factors = served.fit(planted.train, setting, 0)
    rows = list(served.variants(factors, setting))
    names = [name for name, _, _ in rows]
    assert names == ["exact", "defaults", "recall_target 0.9"]
    assert rows[0][2]["found"] == 1
    for _, ranker, others in rows:
        assert others["found"] > 0.8 and others["queries per CPU second"] > 0
        assert evaluate.evaluate(ranker, planted)["recall_at_20"] > 0


@pytest.fixture
def planted():
    """Users who take items of their own third alone, all equally popular."""
    import splits

    users, items = np.meshgrid(np.arange(60), np.arange(90), indexing="ij")
    kept = (users % 3 == items % 3) & ((users + items // 3) % 2 == 0)
    pairs = np.stack([users[kept], items[kept]]).astype(np.int32)
    pairs = pairs[:, np.random.default_rng(0).permutation(pairs.shape[1])]
    train = splits.Interactions(*pairs[:, 300:], num_users=60, num_items=90)
    return splits.Split(train, *pairs[:, :300])


COMMON = {"width": 8, "temperature": 0.2, "rate": 0.05}


@pytest.mark.parametrize(
    ("module", "setting"),
    [
        ("peers.tfrs_two_tower", {"batch": 50, "corrections": False}),
        ("peers.tfrs_two_tower", {"batch": 50, "corrections": True}),
        ("peers.torch_two_tower", {"batch": 50}),
        ("peers.als", {"regularization": 0.1, "alpha": 40.0}),
        ("peers.bpr", {"regularization": 0.001, "learning_rate": 0.1}),
        ("models.two_tower", {"batch": 50}),
        pytest.param(
            "models.two_tower",
            {
                "batch": 50,
                "log_q": "streaming",
                "positive": "refined",
                "accidental_hits": True,
                "same_key": True,
                "uniform": 40,
                "memory": 20,
                "hard": 30,
                "distinct": True,
            },
            marks=pytest.mark.slow,
        ),
        (
            "models.smoothed_towers",
            {
                "users": 13,
                "layers": 2,
                "share": 0.5,
                "taught": 0.2,
                "suggestions": 20,
                "sharpness": 1.5,
                "l2": 10.0,
            },
        ),
        (
            "models.smoothed_towers",
            {
                "users": 20,
                "layers": 0,
                "share": 0.0,
                "taught": 0,
                "log_q": False,
                "every_item": False,
                "singular_start": False,
            },
        ),
    ],
)
def test_models_learn(module, setting, planted, keras_2):
    import evaluate

    package = {"peers.torch_two_tower": "torch"}.get(module)
    if module in ("peers.als", "peers.bpr"):
        package, setting = "implicit", {"factors": 7, "iterations": 100, **setting}
    else:
        setting = {"epochs": 15, **COMMON, **setting}
    if package:
        reason = f"needs benchmarks/quality/requirements.txt, for {package}"
        pytest.importorskip(package, reason=reason)
    fit = importlib.import_module(module).fit
    factors = fit(planted.train, setting, 0)
    assert (len(factors.users), len(factors.items)) == (60, 90)
    assert factors.users.shape[1] == factors.items.shape[1] <= 8
    # Twenty items at random of the 75 or so that are left find a quarter.
    assert evaluate.evaluate(factors, planted)["recall_at_20"] > 0.9
    if module.endswith("smoothed_towers"):
        counts = np.maximum(planted.train.item_counts(), 1)
        shares = COMMON["temperature"] * setting["share"] * np.log(counts)
        np.testing.assert_allclose(factors.items[:, -1], shares, rtol=1e-5)
        np.testing.assert_allclose(factors.users[:, -1], 1)
        for vectors in (factors.users, factors.items):
            lengths = np.linalg.norm(vectors[:, :-1], axis=1)
            np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_keras_rs_learns(planted):
    pytest.importorskip(
        "keras_rs", reason="needs benchmarks/quality/requirements.txt, for keras-rs"
    )
    import evaluate
    from peers import keras_rs_two_tower

    setting = {"epochs": 15, "batch": 50, **COMMON}
    factors = keras_rs_two_tower.fit(planted.train, setting, 0)
    assert evaluate.evaluate(factors, planted)["recall_at_20"] > 0.9


REPLICAS = """
import json, sys
sys.path.insert(0, {folder!r})
import numpy as np
import splits
from evaluate import evaluate
from models import replicas
with np.load({data!r}) as file:
    train = splits.Interactions(*file["train"], num_users=60, num_items=90)
    split = splits.Split(train, *file["test"])
print(json.dumps(evaluate(replicas.fit(split.train, {setting!r}, 0), split)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "global"])
def test_replicas_learn(kind, planted, keras_2, tmp_path):
    """In a process of its own, since it lays out the devices."""
    setting = {"width": 8, "temperature": 0.2, "rate": 0.05, "base_batch": 50}
    setting |= {"epochs": 15, "batch": 50, "replicas": 2, "distinct": True}
    setting |= {"same_key": True, "global_negatives": kind == "global"}
    train = planted.train
    np.savez(
        tmp_path / "data.npz",
        train=[train.users, train.items],
        test=[planted.test_users, planted.test_items],
    )
    code = REPLICAS.format(
        folder=str(FOLDER), data=str(tmp_path / "data.npz"), setting=setting
    )
    process = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    assert json.loads(process.stdout.splitlines()[-1])["recall_at_20"] > 0.9


class Workers:
    """Stands in for processes of workers; notes what it was asked for."""

    def __init__(self, fail=()):
        self.jobs, self.cores, self._fail = [], [], fail

    def __call__(self, command, environment):
        job = json.loads(command[-1])
        self.jobs.append(job)
        self.cores.append(sorted(os.sched_getaffinity(0)))
        if job["seed"] in self._fail:
            raise subprocess.CalledProcessError(9, command)
        import results

        recall = str(job["setting"].get("rate", 0.5))
        row = dict.fromkeys([*results.MEASURES, *results.COSTS], recall)
        return [json.dumps({"variant": name, "others": "{}", **row}) for name in "ab"]


def test_runner_resumes(tmp_path):
    import jobs
    import results
    import tables

    subject, path = tables.Subject("peers.popularity"), tmp_path / "runs.csv"
    wanted = [("gowalla", "name", subject, "{}", seed, False) for seed in range(3)]
    first, second = Workers(fail=[1]), Workers()
    assert jobs.run_all(wanted, path, start=first) == 1
    assert jobs.run_all(wanted, path, start=second) == 0
    assert [job["seed"] for job in first.jobs] == [0, 1, 2]
    assert [job["seed"] for job in second.jobs] == [1]
    rows = results.read(path)
    assert [row["seed"] for row in rows] == ["0", "0", "2", "2", "1", "1"]
    assert [row["variant"] for row in rows] == ["a", "b"] * 3
    assert all(row["commit"] is not None and row["device"] for row in rows)
    other = [("gowalla", "name", subject, '{"rate": 1}', 0, False)]
    assert jobs.run_all(other, path, start=second) == 0
    assert second.jobs[-1]["setting"] == {"rate": 1}


def test_parallel_runs_share_the_cores(tmp_path):
    import jobs
    import results
    import tables

    before = sorted(os.sched_getaffinity(0))
    subject, both = tables.Subject("peers.popularity"), threading.Barrier(2, timeout=60)
    wanted = [("gowalla", "name", subject, "{}", seed, False) for seed in range(6)]
    workers = Workers()

    def start(command, environment):
        both.wait()  # Only two at a time get past.
        return workers(command, environment)

    assert jobs.run_all(wanted, tmp_path / "runs.csv", 2, start) == 0
    assert len(results.read(tmp_path / "runs.csv")) == 12
    used = sorted(set(map(tuple, workers.cores)))
    if len(before) > 1:
        assert len(used) == 2
        assert sorted(used[0] + used[1]) == before
    assert sorted(os.sched_getaffinity(0)) == before


def test_one_command_searches_runs_and_reports(tmp_path, monkeypatch):
    import jobs
    import report
    import results
    import run
    import tables

    searched = tables.Subject("m", grid={"rate": [0.1, 0.3, 0.2]})
    known = {
        "gowalla": tables.Table(("data",), {"first": searched}, trials=3),
        "scale": tables.Table(
            data=("data",),
            subjects={
                "alike": tables.Subject("m", {"b": 1}, like=("gowalla", "first")),
                "fixed": tables.Subject("m", {"b": 2}, seeded=False),
                "own": tables.Subject("m", grid={"rate": [0.4, 0.6]}),
            },
            trials=2,
        ),
    }
    workers, reports = Workers(), []
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(tables, "load", known.get)
    monkeypatch.setattr(jobs, "_lines_of", workers)
    monkeypatch.setattr(report, "write", lambda: reports.append(len(workers.jobs)))
    monkeypatch.setattr(sys, "argv", ["run.py", "scale", "--seeds", "4", "5"])
    run.main()
    validation = [job["validation"] for job in workers.jobs]
    assert validation == [True] * 5 + [False] * 5
    of_trials = [job["setting"]["rate"] for job in workers.jobs[:5]]
    assert sorted(of_trials[:3]) == [0.1, 0.2, 0.3] and set(of_trials[3:]) == {0.4, 0.6}
    of_runs = [(job["seed"], job["setting"]) for job in workers.jobs[5:]]
    best = [{"b": 1, "rate": 0.3}, {"b": 2}, {"rate": 0.6}]
    assert of_runs == [*((4, each) for each in best), (5, best[0]), (5, best[2])]
    assert reports == [10]
    run.main()
    assert len(workers.jobs) == 10 and reports == [10, 10]


@pytest.mark.slow
def test_worker_measures_popularity_on_gowalla(data_dir):
    path = data_dir / "gowalla.npz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    job = {"module": "peers.popularity", "setting": {}, "data": "gowalla", "seed": 0}
    process = subprocess.run(
        [
            sys.executable,
            FOLDER / "worker.py",
            json.dumps({**job, "validation": False}),
        ],
        env={**os.environ, "TFRS_NEGATIVES_DATA": str(data_dir)},
        stdout=subprocess.PIPE,
        check=True,
    )
    (row,) = map(json.loads, process.stdout.splitlines())
    with np.load(path) as file:
        data = dict(file)
    order = np.argsort(-np.bincount(data["train_item"]), kind="stable")
    seen, wanted = ({} for _ in range(2))
    for found, part in ((seen, "train"), (wanted, "test")):
        for user, item in zip(data[f"{part}_user"], data[f"{part}_item"], strict=True):
            found.setdefault(user, set()).add(item)
    recalls = []
    for user, items in wanted.items():
        ranked = (item for item in order if item not in seen.get(user, ()))
        hits = len(items & set(itertools.islice(ranked, 20)))
        recalls.append(hits / len(items))
    # Equal counts stand in an order that is the benchmark's own.
    assert float(row["recall_at_20"]) == pytest.approx(np.mean(recalls), abs=1e-4)
    assert float(row["cpu_seconds"]) >= 0 and float(row["peak_mib"]) > 1


def test_longer_search_begins_with_the_shorter():
    import tables

    grid = {"a": [1, 2, 3], "b": [4, 5]}
    subject = tables.Subject("m", {"width": 64}, grid, ({"a": 7, "b": 8},))
    assert subject.trials(3)[:3] == subject.trials(5)[:3]
    found = [json.loads(trial) for trial in subject.trials(100)]
    assert len({(trial["a"], trial["b"]) for trial in found}) == len(found) == 7
    assert found[-1] == {"a": 7, "b": 8, "width": 64}
    assert all(trial["width"] == 64 for trial in found)
    assert tables.Subject("m", {"width": 64}).trials(3) == []


def test_runner_takes_the_best_of_a_complete_search(tmp_path, monkeypatch):
    import results
    import tables

    table = tables.Table(
        trials=2,
        subjects={
            "searched": tables.Subject(
                "m", grid={"a": [1, 2]}, second_round=({"a": 3},)
            ),
            "fixed": tables.Subject("m", {"b": 1}),
            "alike": tables.Subject("m", {"b": 2}, like=("gowalla", "searched")),
        },
    )
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(tables, "load", lambda name: table)

    def add(data, subject, value, recall):
        row = dict.fromkeys(results.FIELDS, "")
        row |= {"data": data, "subject": subject, "recall_at_20": recall}
        row["setting"] = results.as_text({"a": value})
        results.append(results.search_file("gowalla"), row)

    def settings():
        return [tables.setting_of("gowalla", "data", name) for name in table.subjects]

    for value, recall in ((1, 0.1), (2, 0.3)):
        add("data", "searched", value, recall)
    for other in (("other", "searched"), ("data", "fixed")):
        add(*other, 3, 0.9)
    add("data", "searched", 4, 0.9)  # Of a grid that was given up.
    assert settings() == [None, '{"b": 1}', None]
    add("data", "searched", 3, 0.2)
    assert settings() == ['{"a": 2}', '{"b": 1}', '{"a": 2, "b": 2}']
    done, number = tables.search("gowalla", "data", "alike")
    assert (len(done), number) == (3, 3)


def test_claims_hold_where_all_seeds_say_so():
    import report

    def runs(*recalls):
        return [{"recall_at_20": str(recall)} for recall in recalls]

    low, high = runs(0.1, 0.2, 0.3), runs(0.4, 0.5, 0.9)
    assert report.verdict(high, low) == ("+0.4000", "holds")
    assert report.verdict(low, high) == ("-0.4000", "does not hold: the reverse does")
    for case, word in (
        ((runs(0.2, 0.5, 0.9), runs(0.1, 0.2, 0.3)), "overlap"),
        ((high[:2], low), "needs 3 seeds"),
        ((None, low), "not measured"),
    ):
        assert word in report.verdict(*case)[1]


def test_report_has_a_line_for_each_variant(tmp_path, monkeypatch):
    import report
    import results
    import tables

    subject = tables.Subject("m", {"width": 8}, {"a": [1]})
    table = tables.Table(data=("data",), trials=1, subjects={"row": subject})
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(tables, "load", lambda name: table)
    row = dict.fromkeys([*results.MEASURES, *results.COSTS], "0.5")
    row |= {"data": "data", "subject": "row", "setting": '{"a": 1, "width": 8}'}
    results.append(results.search_file("scale"), row)
    for seed, found in enumerate((0.25, 0.75)):
        row |= {"seed": seed, "variant": "exact", "others": "{}"}
        results.append(results.runs_file("scale"), row)
        row |= {"variant": "fast", "others": json.dumps({"found": found})}
        results.append(results.runs_file("scale"), row)
    results.append(results.runs_file("scale"), row | {"setting": '{"a": 2}'})
    text = report.table_text("scale", table)
    half = "0.5000 ± 0.0000 | " * 5
    assert "| tail | seeds | trials | CPU s | peak MiB | found | setting |" in text
    assert f"| row, exact | {half}2 | 1 | 0 | 0 |  | a: 1 |" in text
    assert f"| row, fast | {half}2 | 1 | 0 | 0 | 0.5000 ± 0.3536 | a: 1 |" in text
    assert text.count("\n") == 3


def test_report_of_requests_takes_the_rate_of_the_best_validation(
    tmp_path, monkeypatch
):
    import report
    import results

    rows = []
    for rate, seed, validation, recall in (
        ("0.1", 0, 0.9, 0.1),
        ("0.1", 1, 0.1, 0.2),
        ("0.3", 0, 0.6, 0.5),
        ("0.3", 1, 0.6, 0.7),
        ("1.0", 0, 0.99, 0.9),  # Not trained by every seed yet.
    ):
        row = {"data": "shop", "order": "sorted", "task": "masked", "rate": rate}
        row |= {"seed": seed, "epochs": 6, "batch": 1280, "recall_at_20": recall}
        row |= {"validation_recall_at_20": validation, "recall_at_100": 0.5}
        row |= {"false_negatives": 0.25, "requests_a_batch": 4, "cpu_seconds": 9}
        rows.append(row | {"peak_mib": "" if seed else 70})
    path = tmp_path / "requests" / "recovery.csv"
    path.parent.mkdir()
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(results, "HERE", tmp_path / "quality")
    *_, last, _, unfinished = report.requests_text().splitlines()
    assert unfinished.startswith("Not chosen from yet: 1 of these rates")
    figures = "0.6000 ± 0.1414 | 0.5000 ± 0.0000 | 0.2500 ± 0.0000 | 4.0 ± 0.0"
    assert last == f"| sorted, masked | 1,280 | 6 | {figures} | 2 | 3 | 9 | 70 | 0.3 |"


def test_report_writes_between_markers():
    import report

    page = "Mine.\n<!-- scale: begin -->\nold\n<!-- scale: end -->\nMine too.\n"
    written = report.between(page, "scale", "new")
    assert written == report.between(written, "scale", "new")
    assert written.startswith("Mine.\n") and written.endswith("\nMine too.\n")
    assert "new" in written and "old" not in written
    with pytest.raises(ValueError, match="once each"):
        report.between(page, "gowalla", "new")


def test_plots_show_every_row(tmp_path):
    image_lib = pytest.importorskip("matplotlib.image", reason="needs the extra `demo`")
    import plots
    import results

    others = json.dumps({"found": 0.5, "queries per CPU second": 100})
    setting = json.dumps({"batch": 64, "replicas": 2, "global_negatives": True})
    run = {**dict.fromkeys(results.MEASURES, "0.25"), "others": others}
    rows = [(name, [{**run, "setting": setting}] * 3) for name in ("one", "two")]
    for name in plots.TITLES:
        assert plots.draw(name, rows, tmp_path / "new" / f"{name}.png")
        image = image_lib.imread(tmp_path / "new" / f"{name}.png")
        assert image.std() > 0.05
    assert not plots.draw("requests", rows, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_every_config_loads():
    import tables

    for name in tables.NAMES:
        table = tables.load(name)
        assert table.scripts or table.subjects
        searched = [s for s in table.subjects.values() if s.grid]
        budgets = {len(subject.trials(table.trials)) for subject in searched}
        assert len(budgets) <= 1, f"{name}: one budget for all, not {budgets}"
        for claim in table.claims:
            assert set(claim[1:]) <= set(table.subjects)
        for subject in table.subjects.values():
            assert (FOLDER / f"{subject.module.replace('.', '/')}.py").exists()
