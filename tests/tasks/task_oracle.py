"""The task by loops over rows and columns, in float64, for any set of its options.

It shares nothing with the package. `Case` is a plain description of a call.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Case:
    """What a task is made with and called with, as NumPy arrays.

    Keys of rows and candidates are dicts of pairs `(values, mask)`.
    """

    queries: np.ndarray  # [U, d] or [U, H, d]
    candidates: np.ndarray  # [V, d]
    query_rows: np.ndarray  # [B]
    candidate_rows: np.ndarray  # [C]
    temperature: float = 1.0
    positive: str = "all"
    sigmoid: bool = False
    negative_weight: float | None = None
    num_hard_negatives: int | None = None
    reduction: str = "sum"
    remove_accidental_hits: bool = False
    mask_shared_positives: bool = False
    ids: np.ndarray | None = None  # [C]
    query_keys: dict = dataclasses.field(default_factory=dict)
    candidate_keys: dict = dataclasses.field(default_factory=dict)
    query_strata: np.ndarray | None = None  # [B]
    candidate_strata: tuple | None = None  # [C] and a mask [C]
    known: list | None = None  # B lists
    score_mask: np.ndarray | None = None  # [B, C]
    log_q: np.ndarray | None = None  # [C]
    negatives: np.ndarray | None = None  # [B, M, d]
    negative_ids: np.ndarray | None = None  # [B, M]
    negative_mask: np.ndarray | None = None  # [B, M]
    negative_log_q: np.ndarray | None = None  # [B, M]
    target_ids: list | None = None  # B lists
    target_weights: list | None = None  # B lists
    target_embeddings: np.ndarray | None = None  # [B, M, d]
    target_log_q: np.ndarray | None = None  # [B, M]
    target_share: float | None = None
    labels: np.ndarray | None = None  # [B]
    sample_weight: np.ndarray | None = None  # [B]
    remembered: list = dataclasses.field(default_factory=list)  # dicts of entries
    false_negatives: dict | None = None  # A margin or a share
    guide_queries: np.ndarray | None = None  # [B, d'], None: the towers are the guide
    guide_candidates: np.ndarray | None = None  # [C, d']
    held_false: list | None = None  # As of `false_of`, where embeddings are moved

    @property
    def num_rows(self):
        return len(self.query_rows)


def key_of(keys, name, place):
    """The key, or None where there is none."""
    values, mask = keys[name]
    return values[place] if mask[place] else None


def shares_key(case, i, others, place):
    """Whether row i has a key in common with entry `place` of `others`."""
    for name in case.query_keys:
        own = key_of(case.query_keys, name, i)
        if own is not None and name in others:
            if key_of(others, name, place) == own:
                return True
    return False


def is_of_another_stratum(case, i, k):
    """Whether candidate k has a stratum that is not row i's."""
    if case.query_strata is None:
        return False
    if case.candidate_strata is None:
        own = case.query_strata[k] if k < case.num_rows else None
    else:
        values, mask = case.candidate_strata
        own = values[k] if mask[k] else None
    return own is not None and own != case.query_strata[i]


def positives_of_key(case, i):
    """Ids of the positives of all rows that share a key with row i."""
    return [
        case.ids[j]
        for j in range(case.num_rows)
        if shares_key(case, i, case.query_keys, j)
    ]


def listed_targets(case, i):
    """`(item, weight)` of each target that row i lists, weights of 0 left out."""
    if case.target_ids is None:
        return []
    pairs = zip(case.target_ids[i], case.target_weights[i], strict=True)
    return [(item, weight) for item, weight in pairs if weight > 0]


def place_of(case, i, item):
    """Where a target of row i stands: the first column of its item, or its own."""
    if item == case.ids[i]:
        return "candidate", i
    in_order = [("candidate", k) for k in range(case.num_rows)]
    in_order += [("remembered", k) for k in range(len(case.remembered))]
    in_order += [("candidate", k) for k in range(case.num_rows, len(case.ids))]
    for kind, k in in_order:
        held = case.ids[k] if kind == "candidate" else case.remembered[k]["id"]
        if held is not None and held == item:
            return kind, k
    return None


def targets_of(case, i):
    """The weight of each target of row i by its place, its own positive's among them.

    Targets that are no column are none.
    """
    weights = {}
    if case.target_embeddings is not None:
        for m, weight in enumerate(case.target_weights[i]):
            if weight > 0:
                weights["brought", m] = weight
        return weights
    for item, weight in listed_targets(case, i):
        place = place_of(case, i, item)
        if place is not None:
            weights[place] = weights.get(place, 0) + weight
    return weights


def is_excluded(case, i, item):
    """Whether a rule on ids forbids an item, None for none, to row i."""
    if item is None:
        return False
    if case.remove_accidental_hits:
        if item in [case.ids[i], *(target for target, _ in listed_targets(case, i))]:
            return True
    if case.known is not None and item in case.known[i]:
        return True
    return case.mask_shared_positives and item in positives_of_key(case, i)


def false_of(case):
    """For each row, which columns, remembered entries and own negatives are false."""
    return [_false_of_row(case, i) for i in range(case.num_rows)]


def _false_of_row(case, i):
    negatives = [] if case.negatives is None else case.negatives[i]
    none = [False] * len(case.remembered), [False] * len(negatives)
    if case.false_negatives is None:
        return [False] * len(case.candidate_rows), *none

    def above(scores, own):
        if "margin" in case.false_negatives:
            bound = own + case.false_negatives["margin"]
        else:
            bound = own * case.false_negatives["share"]
        return [one > bound for one in scores]

    if case.guide_queries is not None:
        scores = case.guide_candidates @ case.guide_queries[i]
        return above(scores, scores[i]), *none
    query = case.queries[case.query_rows[i]]
    own = score(query, case.candidates[case.candidate_rows[i]], 1.0)
    groups = (
        case.candidates[case.candidate_rows],
        [entry["embedding"] for entry in case.remembered],
        negatives,
    )
    return [above([score(query, x, 1.0) for x in group], own) for group in groups]


def negatives_of(case, i):
    """`(embedding, log q)` of each negative of row i that no rule drops."""
    found, targets = [], targets_of(case, i)
    held = case.held_false
    false = _false_of_row(case, i) if held is None else held[i]
    for k, row in enumerate(case.candidate_rows):
        keys = {
            name: case.candidate_keys.get(name, case.query_keys[name])
            for name in case.query_keys
            if name in case.candidate_keys or k < case.num_rows
        }
        item = None if case.ids is None else case.ids[k]
        if (
            k == i
            or ("candidate", k) in targets
            or false[0][k]
            or is_excluded(case, i, item)
            or shares_key(case, i, keys, k)
            or is_of_another_stratum(case, i, k)
            or (case.score_mask is not None and not case.score_mask[i, k])
        ):
            continue
        log_q = 0.0 if case.log_q is None else case.log_q[k]
        found.append((case.candidates[row], log_q))
    for k, entry in enumerate(case.remembered):
        if ("remembered", k) in targets or false[1][k]:
            continue
        of_entry = {name: ([key], [True]) for name, key in entry["keys"].items()}
        for name, key in entry["keys"].items():
            if key is None:
                of_entry[name] = ([0], [False])
        if is_excluded(case, i, entry["id"]) or shares_key(case, i, of_entry, 0):
            continue
        found.append((entry["embedding"], entry["log_q"]))
    if case.negatives is not None:
        for m, embedding in enumerate(case.negatives[i]):
            if case.negative_mask is not None and not case.negative_mask[i, m]:
                continue
            if false[2][m]:
                continue
            item = None if case.negative_ids is None else case.negative_ids[i, m]
            if is_excluded(case, i, item):
                continue
            log_q = 0.0
            if case.negative_log_q is not None:
                log_q = case.negative_log_q[i, m]
            found.append((embedding, log_q))
    return found


def score(query, embedding, temperature):
    """The best head's product, over the temperature."""
    return max(head @ embedding for head in np.atleast_2d(query)) / temperature


def row_loss(case, i, factor=None):
    """The loss of a row and, for "refined", the factor that has no gradient."""
    query = case.queries[case.query_rows[i]]
    own_log_q = 0.0 if case.log_q is None else case.log_q[i]
    own = score(query, case.candidates[case.candidate_rows[i]], case.temperature)
    scores = sorted(
        (
            score(query, embedding, case.temperature) - log_q
            for embedding, log_q in negatives_of(case, i)
        ),
        reverse=True,
    )
    k = case.num_hard_negatives
    if k is not None and k > 0:
        scores = scores[:k]
    if case.sigmoid:
        return sigmoid_loss(case, i, own, own_log_q, scores), None
    if case.positive == "refined":
        if not scores:
            return 0.0, 0.0
        log_z = np.logaddexp.reduce(scores) + np.log1p(-np.exp(own_log_q))
        if factor is None:
            odds = own - (log_z - np.log(len(scores)))
            factor = 1 / (1 + np.exp(odds))
        return -factor * (own - log_z), factor
    if case.positive == "all":
        own -= own_log_q
    targets = targets_of(case, i)
    share = 0.5 if case.target_share is None else case.target_share
    mean, others = own if not targets else (1 - share) * own, []
    for place, weight in targets.items():
        scored = own
        if place != ("candidate", i):
            scored = target_score(case, i, query, place)
            others.append(scored)
        mean += share * weight / sum(targets.values()) * scored
    if case.positive == "outside":
        rho = 1.0 if case.negative_weight is None else case.negative_weight
        value = rho * np.logaddexp.reduce(scores) - mean if scores else 0.0
        return value, None
    return np.logaddexp.reduce([own, *others, *scores]) - mean, None


def target_score(case, i, query, place):
    """What the target of row i at a place scores, corrected as its positive is."""
    kind, k = place
    log_q = 0.0
    if kind == "candidate":
        embedding = case.candidates[case.candidate_rows[k]]
        log_q = 0.0 if case.log_q is None else case.log_q[k]
    elif kind == "remembered":
        embedding = case.remembered[k]["embedding"]
        log_q = case.remembered[k]["log_q"]
    else:
        embedding = case.target_embeddings[i, k]
        log_q = 0.0 if case.target_log_q is None else case.target_log_q[i, k]
    corrected = log_q if case.positive == "all" else 0.0
    return score(query, embedding, case.temperature) - corrected


def sigmoid_loss(case, i, own, own_log_q, scores):
    n = max(len(scores), 1)
    weight = n if case.negative_weight is None else case.negative_weight
    shift = 0.0 if case.log_q is None else np.log(weight)
    if case.log_q is not None and case.positive == "all":
        own = own - own_log_q - shift
    label = 1.0 if case.labels is None else case.labels[i]
    cost = np.logaddexp(0, own) - label * own
    return cost + weight / n * sum(np.logaddexp(0, s - shift) for s in scores)


def loss(case, factors=None):
    """The reduced loss (an array for "none") and the rows' factors."""
    weights = np.ones(case.num_rows)
    if case.sample_weight is not None:
        weights = case.sample_weight
    rows = [
        row_loss(case, i, None if factors is None else factors[i])
        for i in range(case.num_rows)
    ]
    weighted = weights * np.array([value for value, _ in rows])
    factors = [factor for _, factor in rows]
    if case.reduction == "none":
        return weighted, factors
    total = weighted.sum()
    if case.reduction == "sum_over_batch_size":
        return total / max(case.num_rows, 1), factors
    if case.reduction == "mean_with_sample_weight":
        return (total / weights.sum() if weights.sum() else 0.0), factors
    return total, factors


def slope(case, directions, step=1e-5):
    """The derivative of the (summed) loss along directions of the arrays named."""
    _, factors = loss(case)
    case = dataclasses.replace(case, held_false=false_of(case))

    def at(amount):
        moved = {
            name: getattr(case, name) + amount * direction
            for name, direction in directions.items()
        }
        return np.sum(loss(dataclasses.replace(case, **moved), factors)[0])

    return (at(step) - at(-step)) / (2 * step)
