"""Implicit-feedback alternating least squares (Hu et al., ICDM 2008), of `implicit`."""

import implicit.als
import threadpoolctl

from benchmarks.quality.rankers import Factors


def fit(train, setting, seed):
    # The library has threads of its own.
    with threadpoolctl.threadpool_limits(1, "blas"):
        model = implicit.als.AlternatingLeastSquares(
            **setting, random_state=seed, use_gpu=False
        )
        model.fit(train.matrix())
    return Factors(model.user_factors, model.item_factors)
