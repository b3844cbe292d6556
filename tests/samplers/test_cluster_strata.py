import sys

import numpy as np
import pytest

from tfrs_negatives.samplers import Stratified, cluster_strata


def blobs(sizes, seed=0):
    """Points around centres far apart, and which each is of."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(sizes)), sizes)
    which = rng.permutation(which)
    centres = 50 * rng.normal(size=(len(sizes), 3))
    return centres[which] + rng.normal(size=(len(which), 3)), which


def same_partition(one, other):
    """Whether two numberings make the same groups."""
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_clusters_that_are_far_apart_are_found(seed):
    points, which = blobs([40, 7, 90, 13], seed)
    strata = cluster_strata(points, 4, seed=seed)
    assert strata.dtype == np.int64 and set(strata) == {0, 1, 2, 3}
    assert same_partition(strata, which)


def test_every_item_is_nearest_to_the_mean_of_its_cluster():
    """What ends Lloyd's iterations, of points without clusters."""
    points = np.random.default_rng(1).normal(size=(500, 5))
    strata = cluster_strata(points, 12, num_iterations=500)
    means = np.stack([points[strata == k].mean(axis=0) for k in range(12)])
    distances = ((points[:, None] - means) ** 2).sum(axis=2)
    np.testing.assert_array_equal(distances.argmin(axis=1), strata)


def test_equal_seeds_give_equal_clusters():
    points = np.random.default_rng(2).normal(size=(300, 4))
    one = cluster_strata(points, 9, seed=3)
    np.testing.assert_array_equal(one, cluster_strata(points, 9, seed=3))
    assert not same_partition(one, cluster_strata(points, 9, seed=4))


def test_small_clusters_join_the_nearest():
    points, which = blobs([30, 30, 1], seed=3)
    strata = cluster_strata(points, 3, num_iterations=50)
    assert len(set(strata)) == 2
    centres = np.stack([points[which == k].mean(axis=0) for k in range(2)])
    alone = points[which == 2][0]
    nearest = ((centres - alone) ** 2).sum(axis=1).argmin()
    expected = np.where(which == 2, nearest, which)
    assert same_partition(strata, expected)
    sampler = Stratified(np.arange(61), strata, "item")
    assert sampler.num_strata == 2


def test_points_that_are_all_alike_are_one_cluster():
    np.testing.assert_array_equal(cluster_strata(np.ones([9, 2]), 3), np.zeros(9))


def test_blocks_change_nothing(monkeypatch):
    points = np.random.default_rng(5).normal(size=(100, 4))
    whole = cluster_strata(points, 5)
    module = sys.modules["tfrs_negatives.samplers.cluster_strata"]
    monkeypatch.setattr(module, "_NUMBERS", 35)
    np.testing.assert_array_equal(cluster_strata(points, 5), whole)


@pytest.mark.parametrize(
    "embeddings, options, message",
    [
        (np.ones(5), {}, r"expected shape \[N, d\], received \(5,\)"),
        ([[1.0], [np.nan]], {}, "1 numbers are not finite"),
        (np.ones([5, 2]), {"num_clusters": 3}, "need 6: received 5. Ask for fewer"),
        (np.ones([5, 2]), {"num_clusters": 0}, "`num_clusters`"),
        (np.ones([5, 2]), {"smallest": 1}, "`smallest`"),
        (np.ones([5, 2]), {"seed": -1}, "`seed`"),
    ],
)
def test_bad_arguments(embeddings, options, message):
    with pytest.raises(ValueError, match=message):
        cluster_strata(embeddings, **{"num_clusters": 1, **options})
