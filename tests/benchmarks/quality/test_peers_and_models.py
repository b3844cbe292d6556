"""What the quality benchmark trains."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.common.provenance import PROJECT
from benchmarks.quality import evaluate
from benchmarks.quality.subjects import module_of

COMMON = {"width": 8, "temperature": 0.2, "rate": 0.05}


def test_ease_equals_the_closed_form_among_items(split):
    from benchmarks.quality.peers import ease

    matrix = np.zeros([60, 90])
    matrix[split.train.users, split.train.items] = 1
    inverse = np.linalg.inv(matrix.T @ matrix + 30 * np.eye(90))
    weights = np.eye(90) - inverse / np.diag(inverse)
    scores = ease.fit(split.train, {"l2": 30.0}, 0).of(np.arange(60))
    unseen = matrix == 0
    np.testing.assert_allclose(
        scores[unseen], (matrix @ weights)[unseen], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("module", "setting"),
    [
        ("peers.tfrs_two_tower", {"batch": 50, "corrections": False}),
        ("peers.tfrs_two_tower", {"batch": 50, "corrections": True}),
        ("peers.torch_two_tower", {"batch": 50}),
        ("peers.als", {"regularization": 0.1, "alpha": 40.0}),
        ("peers.bpr", {"regularization": 0.001, "learning_rate": 0.1}),
        ("models.two_tower", {"batch": 50}),
        (
            "models.two_tower",
            {
                "batch": 50,
                "log_q": "exact",
                "positive": "outside",
                "negative_weight": 1.2,
                "known": True,
                "uniform": 40,
                "margin": 0.5,
                "shared": 0.1,
                "bias": 0.5,
                "top_k": 5,
            },
        ),
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
            marks=pytest.mark.slow(reason="trains a model to a figure"),
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
    package = {"peers.torch_two_tower": "torch"}.get(module)
    if module in ("peers.als", "peers.bpr"):
        package, setting = "implicit", {"factors": 7, "iterations": 100, **setting}
    else:
        setting = {"epochs": 15, **COMMON, **setting}
    if package:
        reason = f"needs benchmarks/quality/requirements.txt, for {package}"
        pytest.importorskip(package, reason=reason)
    fit = module_of(module).fit
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
    from benchmarks.quality.peers import keras_rs_two_tower

    setting = {"epochs": 15, "batch": 50, **COMMON}
    factors = keras_rs_two_tower.fit(planted.train, setting, 0)
    assert evaluate.evaluate(factors, planted)["recall_at_20"] > 0.9


REPLICAS = """
import json
import numpy as np
from benchmarks.quality import splits
from benchmarks.quality.evaluate import evaluate
from benchmarks.quality.models import replicas
with np.load({data!r}) as file:
    train = splits.Interactions(*file["train"], num_users=60, num_items=90)
    split = splits.Split(train, *file["test"])
print(json.dumps(evaluate(replicas.fit(split.train, {setting!r}, 0), split)))
"""


@pytest.mark.slow(reason="trains on replicas in a process of its own")
@pytest.mark.parametrize("kind", ["local", "global"])
def test_replicas_learn(kind, planted, keras_2, tmp_path):
    """In a process of its own, since it lays out the devices."""
    setting = {**COMMON, "base_batch": 50}
    setting |= {"epochs": 15, "batch": 50, "replicas": 2, "distinct": True}
    setting |= {"same_key": True, "global_negatives": kind == "global"}
    train = planted.train
    np.savez(
        tmp_path / "data.npz",
        train=[train.users, train.items],
        test=[planted.test_users, planted.test_items],
    )
    code = REPLICAS.format(data=str(tmp_path / "data.npz"), setting=setting)
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert json.loads(process.stdout.splitlines()[-1])["recall_at_20"] > 0.9


def test_served_variants_find_what_exact_search_finds(planted, keras_2):
    pytest.importorskip("scann", reason="needs ScaNN, to search by")
    from benchmarks.quality.models import served

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
