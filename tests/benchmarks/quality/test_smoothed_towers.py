"""The quality benchmark's best model, and its teachers."""

import numpy as np


def test_suggestions_are_shares_of_what_teachers_rank_highest(split, monkeypatch):
    from benchmarks.quality.models import teachers
    from benchmarks.quality.peers import ease

    monkeypatch.setattr(teachers, "NEIGHBOURS", 4)
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


def test_smoothed_towers_learn_a_softmax_over_items_that_a_user_lacks(keras_2, split):
    import tensorflow as tf

    from benchmarks.quality.models import smoothed_towers

    setting = {"width": 8, "temperature": 0.3, "layers": 2, "share": 0.5}
    setting |= {"users": 13, "taught": 0, "epochs": 1, **smoothed_towers.PARTS}
    owned, counts = split.train.matrix(), split.train.item_counts()
    assert counts.max() > 4 * np.median(counts)
    model = smoothed_towers.SmoothedTowers(
        setting, smoothed_towers.symmetric(owned), counts, seed=0
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
