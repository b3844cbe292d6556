"""EASE^R (Steck, WWW 2019), closed form, by NumPy and SciPy, computed among users.

With X the `[users, items]` matrix of interactions and P the inverse of XᵀX + aI, scores
are X B with B = I - P / diag(P) by columns (eq. 8). Where there are fewer users than
items, the inverse of K = XXᵀ + aI is smaller, and gives the same: by the push-through
identity X P = K⁻¹ X, and by Woodbury's diag(P)ⱼ = (1 - xⱼᵀ K⁻¹ xⱼ) / a with xⱼ the
column of item j. Scores are -K⁻¹ X / diag(P): the identity in B is left out, since it
adds to items alone that the user has in training, which are not ranked.
"""

import numpy as np
import scipy.linalg.lapack

from benchmarks.quality.rankers import Scores

BLOCK = 1024


def fit(train, setting, seed):
    matrix = train.matrix().tocsr()
    inverse = inverse_kernel(matrix, setting["l2"])
    columns = matrix.tocsc()
    diagonal = np.empty(train.num_items, np.float64)
    for item in range(train.num_items):
        users = columns.indices[columns.indptr[item] : columns.indptr[item + 1]]
        among = inverse[np.ix_(users, users)]
        diagonal[item] = (1 - among.sum(dtype=np.float64)) / setting["l2"]
    scale = (-1 / diagonal).astype(np.float32)
    transposed = matrix.T.tocsr()

    def scores(users):
        return (transposed @ inverse[users].T).T * scale

    return Scores(scores)


def inverse_kernel(matrix, l2):
    """`[users, users]` float32, the inverse of XXᵀ + l2 I."""
    size = matrix.shape[0]
    kernel = np.empty([size, size], np.float32, order="F")
    transposed = matrix.T.tocsc()
    for start in range(0, size, BLOCK):
        columns = transposed[:, start : start + BLOCK]
        kernel[:, start : start + BLOCK] = (matrix @ columns).toarray()
    kernel[np.diag_indices(size)] += l2
    kernel, failed = scipy.linalg.lapack.spotrf(kernel, lower=1, clean=0, overwrite_a=1)
    if not failed:
        kernel, failed = scipy.linalg.lapack.spotri(kernel, lower=1, overwrite_c=1)
    if failed:
        raise ValueError(f"XXᵀ + {l2} I cannot be inverted in float32: raise l2.")
    for start in range(0, size, BLOCK):
        rows, below = slice(start, start + BLOCK), slice(start + BLOCK, None)
        corner = np.tril(kernel[rows, rows])
        kernel[rows, rows] = corner + np.tril(corner, -1).T
        kernel[rows, below] = kernel[below, rows].T
    return kernel
