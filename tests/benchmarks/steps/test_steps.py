"""The whole step's subjects: they start alike and compute the same loss."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.steps import fit_worker, run, two_towers
from benchmarks.steps.problem import LEARNING_RATE, TEMPERATURE, Problem
from tfrs_negatives import optimizers
from tfrs_negatives._keras import IS_KERAS_3

PROBLEM = Problem(users=12, items=9, width=4, batch=8, negatives=6, rows=48)


def expected_loss(problem, batch):
    """The corrected loss in float64, pair by pair."""
    users, items = (table.astype(np.float64) for table in problem.tables())
    share = 1 / np.arange(11, problem.items + 11)
    share /= share.sum()
    columns = [*batch["item"], *batch["negatives"]]
    total = 0.0
    for row, (user, own) in enumerate(zip(batch["user"], batch["item"], strict=True)):
        scores = []
        for column, item in enumerate(columns):
            same_user = column < len(batch["user"]) and batch["user"][column] == user
            if column != row and (same_user or item == own):
                continue
            q = problem.batch * share[item] + problem.negatives / problem.items
            query = users[user] / np.linalg.norm(users[user])
            candidate = items[item] / np.linalg.norm(items[item])
            score = query @ candidate / TEMPERATURE
            score -= np.log(q / (problem.batch + problem.negatives))
            scores.append(score)
            if column == row:
                positive = score
        total += np.log(np.exp(scores).sum()) - positive
    return total


def losses_of_keras(loss, steps):
    model = two_towers.TwoTowers(PROBLEM, loss)
    model.compile(optimizers.LazyAdam(LEARNING_RATE))
    model.start_from(PROBLEM.tables())
    step = two_towers.bare_step(model)
    batches = PROBLEM.batches_in_memory()[:steps]
    return [
        float(step({name: tf.constant(ids) for name, ids in batch.items()}))
        for batch in batches
    ]


def losses_of_tfrs(steps):
    if IS_KERAS_3:
        pytest.skip("TFRS needs Keras 2")
    return losses_of_keras(two_towers.Tfrs(PROBLEM), steps)


def losses_of_torch(steps):
    torch = pytest.importorskip("torch")
    from benchmarks.steps.torch_worker import Trainer

    trainer = Trainer(PROBLEM)
    return [
        trainer.step(**{name: torch.from_numpy(ids) for name, ids in batch.items()})
        for batch in PROBLEM.batches_in_memory()[:steps]
    ]


def losses_of_ours(steps):
    return losses_of_keras(two_towers.Ours(PROBLEM, known_log_q=True), steps)


@pytest.mark.parametrize("losses", [losses_of_ours, losses_of_tfrs, losses_of_torch])
def test_first_loss_is_the_oracles(losses):
    first = PROBLEM.batches_in_memory()[0]
    assert len(set(first["user"])) < len(first["user"])  # Rows to mask.
    expected = expected_loss(PROBLEM, first)
    np.testing.assert_allclose(losses(1), [expected], rtol=1e-5)


@pytest.mark.parametrize("losses", [losses_of_tfrs, losses_of_torch])
def test_peers_train_as_ours(losses):
    found = losses(6)
    assert found[0] != found[-1]
    np.testing.assert_allclose(found, losses_of_ours(6), rtol=1e-5)


def test_rows_come_once_an_epoch_and_requests_whole():
    batches = list(itertools.islice(PROBLEM.batches_of_rows(), 12))
    for epoch in (batches[:6], batches[6:]):
        assert sorted(np.concatenate(epoch)) == list(range(48))
    assert not np.array_equal(batches[:6], batches[6:])
    users = PROBLEM.columns()["user"]
    for rows in batches:
        groups = users[rows].reshape(-1, 4)
        assert (groups == groups[:, :1]).all()
    assert {len(batch["negatives"]) for batch in PROBLEM.batches_in_memory()} == {6}


def test_fit_goes_one_step_when_told_to():
    model = two_towers.compiled(PROBLEM, "ours", "lazy")
    model.start_from(PROBLEM.tables())
    following = fit_worker.fitting_step(model, PROBLEM)
    for done in (1, 2, 3):
        assert int(np.array(model.optimizer.iterations)) == done
        assert following() > 0


class Worker:
    """Stands in for a subject's process."""

    def __init__(self, seconds):
        self.times = {"wall": seconds, "cpu": [2 * second for second in seconds]}


def test_figures_are_medians_over_turns():
    # Two turns of 16 steps; a hiccup of a step in each is no turn's median.
    ours = Worker([0.1] * 15 + [9.0] + [0.3] * 15 + [9.0])
    peer = Worker([0.4, 0.6])
    subjects = {run.OURS[0]: ours, ("tfrs", 2, "adam", "fit", 1): peer}
    first, second = run.rows_of(subjects, PROBLEM, turns=2)
    assert (first["wall_ms"], first["cpu_ms"], first["steps"]) == (200.0, 400.0, 32)
    assert first["this_over_ours_2"] == 1.0 and first["this_over_ours_3"] == ""
    assert (second["wall_ms"], second["turns"], second["steps"]) == (500.0, 2, 2)
    assert second["this_over_ours_2"] == 3.0  # The median of 4 and 2.


@pytest.mark.parametrize(
    ("subject", "way", "ratio", "passes"),
    [
        ("ours", "bare", 0.96, True),
        ("ours", "bare", 0.94, False),
        ("tfrs", "fit", 2.5, True),
        ("tfrs", "fit", 2.4, False),
        ("torch", "eager", 1.3, True),
        ("torch", "eager", 1.2, False),
    ],
)
def test_verdicts(capsys, subject, way, ratio, passes):
    row = {"subject": subject, "way": way, "keras": 2}
    run.judge({**row, "this_over_ours_2": ratio, "this_over_ours_3": ""})
    assert capsys.readouterr().out.startswith("PASS" if passes else "FAIL")
