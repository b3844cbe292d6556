"""Slow, obvious float64 versions of teachers, of dense [users, items] matrices."""

import numpy as np


def ease_weights(matrix, l2):
    """[I, I]: column j is the ridge regression of item j on all others."""
    num_items = matrix.shape[1]
    weights = np.zeros([num_items, num_items])
    for item in range(num_items):
        others = [j for j in range(num_items) if j != item]
        given, wanted = matrix[:, others], matrix[:, item]
        gram = given.T @ given + l2 * np.eye(len(others))
        weights[others, item] = np.linalg.solve(gram, given.T @ wanted)
    return weights


def neighbour_weights(matrix, neighbours):
    """[I, I]: row i has item i's nearest, of equal ones the first."""
    num_users, num_items = matrix.shape
    weights = np.zeros([num_items, num_items])
    for i in range(num_items):
        for j in range(num_items):
            if i == j:
                continue
            for user in range(num_users):
                product = matrix[user, i] * matrix[user, j]
                if product:
                    of_items = matrix[:, i].sum() * matrix[:, j].sum()
                    weights[i, j] += product / matrix[user].sum() / of_items**0.5
        # Equal ones, such as 1/3 + 1/6 and 1/2, are so to the last digits only.
        order = sorted(range(num_items), key=lambda j: (-weights[i, j].round(6), j))
        weights[i, order[neighbours:]] = 0
    return weights


def top(scores, had, number):
    """Lists of (item, score) of each row: the highest above 0, without what it had."""
    found = []
    for row, own in zip(scores, had, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))
        found.append([(j, row[j]) for j in order if row[j] > 0 and not own[j]][:number])
    return found


def blended(answers, number, sharpness, num_items):
    """[U, I]: shares, of the lists that `top` returns for each teacher."""
    total = np.zeros([len(answers[0]), num_items])
    for rows in answers:
        for row, pairs in enumerate(rows):
            powers = [score**sharpness for _, score in pairs]
            for (item, _), power in zip(pairs, powers, strict=True):
                total[row, item] += power / sum(powers) / len(answers)
    for row in total:
        order = sorted(range(num_items), key=lambda j: (-row[j], j))
        row[order[number:]] = 0
        if row.sum():
            row /= row.sum()
    return total


def dense(ids, weights, item_ids):
    """[U, I], of ids and weights [U, M]."""
    places = {item: place for place, item in enumerate(np.asarray(item_ids).tolist())}
    found = np.zeros([len(ids), len(places)])
    for row, (own, values) in enumerate(zip(ids, weights, strict=True)):
        for item, value in zip(np.asarray(own).tolist(), values, strict=True):
            found[row, places[item]] += value
    return found


def random_matrix(rng, num_users, num_items, per_user=6, weighted=False):
    """[num_users, num_items] of ones and zeros, or of weights; some are popular."""
    matrix = np.zeros([num_users, num_items])
    for row in matrix:
        items = (num_items * rng.random(per_user) ** 2).astype(int)
        row[items] = rng.uniform(0.5, 2, per_user) if weighted else 1
    return matrix
