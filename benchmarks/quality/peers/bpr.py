"""Bayesian personalised ranking (Rendle et al., UAI 2009), of `implicit`.

The library appends a bias to the factors of items: 63 of them make 64 dimensions. It
learns by plain stochastic gradients, and draws a negative as the item of a random
interaction, by popularity, where the paper draws uniformly.
"""

import implicit.bpr

from benchmarks.quality.rankers import Factors


def fit(train, setting, seed):
    model = implicit.bpr.BayesianPersonalizedRanking(
        **setting, random_state=seed, use_gpu=False
    )
    model.fit(train.matrix())
    return Factors(model.user_factors, model.item_factors)
