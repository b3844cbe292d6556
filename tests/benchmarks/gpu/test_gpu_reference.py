"""The float64 reference of the GPU's benchmark, against loops."""

import numpy as np
import pytest
from oracles import row_loss

from benchmarks.gpu.cases import SUBJECTS, TEMPERATURE
from benchmarks.gpu.problems import HARD_NEGATIVES, Problem

torch = pytest.importorskip("torch", reason="PyTorch computes the reference")

PROBLEM = Problem(40, 100, 3, "8%")


def losses_by_loops(computes, made):
    """The summed loss of NumPy inputs."""
    if computes == "distinct":
        queries = made["distinct_queries"][made["query_rows"]]
        candidates = made["distinct_candidates"][made["candidate_rows"]]
    else:
        queries, candidates = made["queries"], made["candidates"]
    users = made.get("users", made.get("sorted_users"))
    ids, log_q = made.get("ids"), made.get("log_q")
    total = 0.0
    for i, query in enumerate(queries.astype(np.float64)):
        scores = candidates.astype(np.float64) @ query / TEMPERATURE
        dropped = np.zeros(len(scores), bool)
        if ids is not None:
            dropped |= ids == ids[i]
            dropped[: len(queries)] |= users == users[i]
            dropped[i] = False
        row_log_q = log_q
        if "negatives" in made:
            more = made["negatives"][i].astype(np.float64) @ query / TEMPERATURE
            scores = np.concatenate([scores, more])
            dropped = np.concatenate([dropped, made["negative_ids"][i] == ids[i]])
            row_log_q = np.concatenate([log_q, made["negative_log_q"][i]])
        k = HARD_NEGATIVES if computes == "mined" else None
        dropped = np.broadcast_to(dropped, (len(queries), len(dropped)))
        total += row_loss(i, scores, row_log_q, dropped, "all", k)
    return total


COMPUTED = {s.computes: s.inputs for s in SUBJECTS.values() if s.trained}


@pytest.mark.parametrize("computes", COMPUTED)
def test_losses_and_slopes(computes, monkeypatch):
    from benchmarks.gpu import reference

    monkeypatch.setattr(reference, "_SCORES", 1000)  # Several blocks.
    made = PROBLEM.inputs(0, COMPUTED[computes])
    tensors = [torch.from_numpy(array) for array in made.values()]
    loss, *gradients = reference.reference(computes, tensors)
    assert float(loss) == pytest.approx(losses_by_loops(computes, made), rel=1e-9)
    # By finite differences, in a direction of all embeddings at once.
    rng = np.random.default_rng(0)
    trained = list(made)[: len(gradients)]
    ways = {name: rng.normal(size=made[name].shape) for name in trained}
    step, slope = 1e-6, 0.0
    for name, gradient in zip(trained, gradients, strict=True):
        slope += np.sum(ways[name] * gradient.numpy())
    ends = [
        losses_by_loops(
            computes,
            {**made, **{n: made[n].astype(np.float64) + s * ways[n] for n in trained}},
        )
        for s in (-step, step)
    ]
    assert slope == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-5)


def test_the_floor():
    from benchmarks.gpu.reference import reference

    made = PROBLEM.inputs(0, SUBJECTS["floor"].inputs)
    queries, candidates = (array.astype(np.float64) for array in made.values())
    powers = np.exp(queries @ candidates.T)
    shares = powers / powers.sum(1, keepdims=True)
    found = reference("floor", [torch.from_numpy(a) for a in made.values()])
    np.testing.assert_allclose(found[0], shares @ candidates, rtol=1e-12)
    np.testing.assert_allclose(found[1], shares.T @ queries, rtol=1e-12)
