"""What losses over sampled negatives share: scores, masks, blocks, gradients."""

import abc
import collections
import functools
import numbers

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses import (
    inputs,
    mining,
    reductions,
    row_blocks,
    scores,
)
from tfrs_negatives.losses import rules as rules_lib
from tfrs_negatives.losses.overwrite import set_each

# Blocks of 2 million scores, 8 MiB in float32, stay near the cores, but a block of few
# rows waits for the candidates: larger ones have 256 rows, up to 28 MiB, and the
# largest 112. (glibc hands out anew what has 32 MiB, and more of it is in use at once.)
_BLOCK_SCORES = (2 * 2**20, 7 * 2**20)

# Up to this size two whole blocks may be in memory at a time.
_OVERLAPPING_SCORES = 4 * 2**20


class SampledLoss(abc.ABC):
    """Base of losses of each row's positive and its sampled negatives.

    Row i scores every candidate column k,

        s(i, k) = <query_i, candidate_k> / temperature  -  log q(k),

    drops the pairs that a rule forbids and keeps the hardest negatives if asked to;
    a subclass says what the row then costs. The weighted costs are summed.

    A dropped pair has gradient exactly 0, as if its column were deleted for that
    row.

    Scores are formed one row block at a time, and so are their gradients: the
    loss is a scalar, hence each block's gradients are known as soon as its
    scores are. Memory is O((B + C) d + block x C), forward and backward.
    With `reduction="none"` the backward pass forms the blocks again. Gradients
    of gradients are not available and raise `LookupError`.

    Args:
      temperature, num_hard_negatives, reduction, row_block: As in
        `SampledSoftmax`.
      positive: One of the class's `POSITIVES`: whether log q corrects the row's own
        positive too ("all").
    """

    POSITIVES = ("all", "negatives")

    def __init__(
        self,
        temperature=None,
        positive="all",
        num_hard_negatives=None,
        reduction="sum",
        row_block=None,
    ):
        _checks.check_choice("positive", positive, self.POSITIVES)
        _checks.check_choice("reduction", reduction, reductions.REDUCTIONS)
        _check_number("temperature", temperature, (tf.float16, tf.float32, tf.float64))
        _check_number("num_hard_negatives", num_hard_negatives, (tf.int32, tf.int64))
        if isinstance(temperature, numbers.Real) and not temperature > 0:
            raise ValueError(
                f"`temperature` must be positive, received {temperature}. "
                "Small values (0.05-0.2) sharpen the softmax of normalised "
                "embeddings; 1 or None leaves scores as they are."
            )
        if row_block is not None:
            _checks.check_at_least("row_block", row_block, 1)
        self.temperature = temperature
        self.positive = positive
        self.num_hard_negatives = num_hard_negatives
        self.reduction = reduction
        self.row_block = row_block

    def get_config(self):
        temperature, k = self.temperature, self.num_hard_negatives
        return {
            "temperature": None if temperature is None else float(temperature),
            "positive": self.positive,
            "num_hard_negatives": None if k is None else int(k),
            "reduction": self.reduction,
            "row_block": self.row_block,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __call__(
        self,
        query_embeddings,
        candidate_embeddings,
        *,
        negative_embeddings=None,
        candidate_log_q=None,
        negative_log_q=None,
        rules=(),
        score_mask=None,
        negative_mask=None,
        labels=None,
        sample_weight=None,
    ):
        """Computes the loss.

        Args:
          query_embeddings: [B, d], or [B, H, d] for H heads a query, which
            score a candidate by their maximum. Any float dtype; half precision
            is computed in float32.
          candidate_embeddings: [C, d], C >= B. Row i's positive is column i;
            columns from B on are negatives of every row.
          negative_embeddings: [B, M, d], negatives of one row each, beside the
            columns that all rows share; None for none.
          candidate_log_q: [C], log q of each column; None means no correction.
            A constant of the sampling design: no gradient flows to it.
          negative_log_q: [B, M], the same for `negative_embeddings`.
          rules: `rules.Rule`s; a pair that any of them lists is dropped.
          score_mask: [B, C] bool, False drops the pair.
          negative_mask: [B, M] bool, False drops the negative, such as padding.
          labels: [B] in [0, 1], whether the row's own candidate is a positive, for
            losses that can tell (`SampledSigmoid`); None: it is.
          sample_weight: [B], weights of the rows; None means 1.

        Returns:
          Scalar, or [B] with `reduction="none"`; float32, or float64 for
          float64 embeddings.

        Raises:
          ValueError: Shapes or dtypes that do not fit, as far as they are
            static.
          tf.errors.InvalidArgumentError: The same where only values tell; log
            q not finite or positive; `score_mask` hiding a row's positive.
        """
        embeddings, temperature, columns = self._prepare(
            (query_embeddings, candidate_embeddings, negative_embeddings),
            _Columns(candidate_log_q, negative_log_q, rules, score_mask, negative_mask),
        )
        queries = embeddings[0]
        labels = self.checked_labels(labels, _checks.size(queries), queries.dtype)
        queries, candidates, *negatives = embeddings

        def block(rows, *embeddings):
            return self._block(rows, embeddings, columns, labels)

        scored = (queries, candidates, temperature, *negatives)
        run = functools.partial(row_blocks.run, block, self._partition(*embeddings))
        weights = reductions.row_weights(
            sample_weight, _checks.size(queries), queries.dtype
        )
        return self._reduced(run, scored, weights)

    def _reduced(self, run, scored, weights):
        """The reduction of the rows' losses; `run` as in `row_blocks`."""
        if self.reduction == "none":
            return weights * row_blocks.each_row(run, scored)
        total = row_blocks.weighted_sum(run, scored, weights)
        return reductions.normalise(total, weights, self.reduction)

    def logits(
        self,
        query_embeddings,
        candidate_embeddings,
        *,
        negative_embeddings=None,
        candidate_log_q=None,
        negative_log_q=None,
        rules=(),
        score_mask=None,
        negative_mask=None,
    ):
        """The scores that the softmax sees, for other losses and for metrics.

        Takes the arguments of `__call__` and holds all B x (C + M) scores at once.

        Returns:
          `(logits, positive_columns)`: [B, width] and [B] int32, where width is
          C + M or, with hard negatives, one more than their number. Dropped pairs
          are -inf.
        """
        (queries, *others), temperature, columns = self._prepare(
            (query_embeddings, candidate_embeddings, negative_embeddings),
            _Columns(candidate_log_q, negative_log_q, rules, score_mask, negative_mask),
        )
        everything = row_blocks.Rows(0, tf.shape(queries)[0])
        embeddings = (queries / temperature, *others)
        scored = self._score(everything, embeddings, columns, in_place=False)
        return scored.logits, scored.positives

    def negatives_of(
        self,
        rows,
        query_embeddings,
        candidate_embeddings,
        *,
        negative_embeddings=None,
        candidate_log_q=None,
        negative_log_q=None,
        rules=(),
        score_mask=None,
        negative_mask=None,
        labels=None,
    ):
        """What the negatives of some rows are to the rows' losses, for metrics.

        Args:
          rows: [r] int32, distinct numbers of rows.
          query_embeddings: [B, d] or [B, H, d], of all rows.
          candidate_embeddings, negative_embeddings, candidate_log_q, negative_log_q,
            rules, score_mask, negative_mask, labels: As in `__call__`, of all rows.

        Returns:
          `(allowed, kept, mass)`, [r, C + M] each: which pairs are negatives after
          the masks, which of them still are after the mining of hard ones, and the
          absolute derivative of the row's loss in the pair's score, 0 where it is not
          kept. The row's own positive is none.
        """
        embeddings, temperature, columns = self._prepare(
            (query_embeddings, candidate_embeddings, negative_embeddings),
            _Columns(candidate_log_q, negative_log_q, rules, score_mask, negative_mask),
        )
        queries = embeddings[0]
        labels = self.checked_labels(labels, _checks.size(queries), queries.dtype)
        rows = row_blocks.ChosenRows(rows)
        queries, candidates, *negatives = map(tf.stop_gradient, embeddings)
        embeddings = (
            rows.of(queries) / tf.stop_gradient(temperature),
            candidates,
            *map(rows.of, negatives),
        )
        log_q = None if columns.log_q is None else rows.of(columns.log_q)
        labels = None if labels is None else rows.of(labels)
        scored = self._scores(rows, embeddings, columns, in_place=True)
        # What follows changes the scores in place: they are read before.
        allowed = tf.not_equal(scored.logits, float("-inf"))
        with tf.control_dependencies([allowed]):
            scored = self._mine(scored, in_place=True)
        kept = tf.not_equal(scored.logits, float("-inf"))
        with tf.control_dependencies([kept]):
            _, mass, factors = self._row_losses(scored, log_q, labels)
        mass = tf.abs(mass)
        if factors is not None:
            mass = row_blocks.scale_rows(mass, factors)
        if scored.mined is not None:
            mass = mining.spread(mass, scored.mined, scored.width)
            kept = tf.cast(kept, mass.dtype)
            kept = mining.spread(kept, scored.mined, scored.width) > 0

        def without_own(matrix):
            none = tf.zeros_like(rows.indices, matrix.dtype)
            return set_each(matrix, rows.indices, none, in_place=False)

        return tuple(map(without_own, (allowed, kept, mass)))

    def can_repeat(self, query_embeddings):
        """Whether `of_repeats` can take the place of a call with these queries."""
        return False

    @abc.abstractmethod
    def _row_losses(self, scored, log_q, labels):
        """What rows cost, and the derivative in their scores.

        Args:
          scored: `Scored`; its logits may be changed in place.
          log_q: [n], of the rows' own candidates, or None.
          labels: [n] or None.

        Returns:
          `(losses, d_logits, factors)`, [n], [n, width] and [n] or None: the
          derivative is `d_logits` times the row's factor, if there are factors.
        """

    def _checked_log_q(self, log_q, queries):
        """Returns log q [C] or None, checked as the class needs it."""
        return log_q

    def checked_labels(self, labels, num_rows, dtype):
        """Returns labels [B] of a dtype, or None, checked as the class needs them."""
        if labels is not None:
            raise ValueError(
                f"`{type(self).__name__}` has no labels, every row's own candidate is "
                "a positive: expected `labels=None`. Leave rows without a positive "
                "out, or use `SampledSigmoid`."
            )

    def _block(self, rows, embeddings, columns, labels):
        """The losses [n] of some rows, and their gradients; see `row_blocks`."""
        scored = self._score(rows, embeddings, columns, in_place=True)
        log_q = None if columns.log_q is None else rows.of(columns.log_q)
        labels = None if labels is None else rows.of(labels)
        losses, d_logits, factors = self._row_losses(scored, log_q, labels)

        def gradients(weighted_queries):
            d_scores = d_logits
            if scored.mined is not None:
                d_scores = mining.spread(d_logits, scored.mined, scored.width)
            if scored.by_head is not None:
                d_scores = mining.to_heads(d_scores, scored.by_head)
            if factors is not None:
                weighted_queries = row_blocks.scale_rows(weighted_queries, factors)
            _, *others = embeddings
            d_queries, *d_others = scores.gradients(d_scores, weighted_queries, *others)
            if factors is not None:
                d_queries = row_blocks.scale_rows(d_queries, factors)
            return d_queries, *d_others

        return losses, gradients

    def _score(self, rows, embeddings, columns, in_place):
        """Scores some rows: corrected, masked, mined."""
        return self._mine(self._scores(rows, embeddings, columns, in_place), in_place)

    def _scores(self, rows, embeddings, columns, in_place):
        """Scores some rows: corrected and masked."""
        queries, candidates, *negatives = embeddings
        positives = rows.indices
        by_head, logits = _shared_scores(queries, candidates, columns.log_q)
        if columns.log_q is not None:
            if self.positive != "all":
                own = _best(scores.own(queries, rows.of(candidates)[:, tf.newaxis]))
                logits = set_each(logits, positives, own[:, 0], in_place)
        if columns.score_mask is not None:
            logits = _keep(logits, rows.of(columns.score_mask))
        if columns.rules:
            logits = rules_lib.drop(columns.rules, logits, rows, in_place)

        if negatives:
            own_by_head = scores.own(queries, *negatives)
            own = _best(own_by_head)
            if columns.negative_log_q is not None:
                own -= rows.of(columns.negative_log_q)
            if columns.negative_mask is not None:
                own = _keep(own, rows.of(columns.negative_mask))
            logits = tf.concat([logits, own], axis=1)
            if by_head is not None:
                by_head = tf.concat([by_head, own_by_head], axis=-1)
        return Scored(logits, positives, by_head, None, tf.shape(logits)[1])

    def _mine(self, scored, in_place):
        """Keeps each row's hardest negatives, if asked to."""
        if not self._mines():
            return scored
        # A variable that is not positive keeps all, as a number does.
        k = tf.convert_to_tensor(self.num_hard_negatives)
        k = tf.where(k > 0, k, scored.width)
        logits, mined = mining.hardest(scored.logits, scored.positives, k, in_place)
        positives = tf.zeros_like(scored.positives)
        return scored._replace(logits=logits, positives=positives, mined=mined)

    def _mines(self):
        k = self.num_hard_negatives
        return k is not None and (not isinstance(k, int) or k > 0)

    def _partition(self, queries, candidates, negatives=None):
        """Chooses the blocks from the shapes: `row_blocks.Partition`."""
        sizes = [(queries, 0), (candidates, 0)]
        if negatives is not None:
            sizes.append((negatives, 1))
        if queries.shape.rank == 3:
            sizes.append((queries, 1))
        numbers = [tensor.shape[axis] for tensor, axis in sizes]
        if None in numbers:
            numbers = [tf.shape(tensor)[axis] for tensor, axis in sizes]
        # As integers where they are known: inside of a loop XLA cuts blocks of a size
        # that it knows, else each is as large as the batch.
        return self._partition_of(queries.shape.rank == 3, *numbers)

    def _partition_of(self, has_heads, num_rows, num_candidates, *others):
        """The same from sizes, the rows' own negatives and heads last, if any."""
        num_heads = others[-1] if has_heads else 1
        num_columns = num_candidates + sum(others[: len(others) - has_heads])
        scores_a_row = num_columns * num_heads
        row_block = self._rows_of_block(num_columns, scores_a_row)
        return row_blocks.Partition(
            # One at least, of no rows where a replica has none.
            num_blocks=_largest(-(-num_rows // row_block), 1),
            overlap=tf.convert_to_tensor(
                row_block * scores_a_row <= _OVERLAPPING_SCORES
            ),
        )

    def check_before(self, dtype, is_corrected):
        """Checks what does not depend on the batch, for callers that change state.

        Args:
          dtype: What the loss computes in.
          is_corrected: Whether there is log q.

        Returns:
          Tensors that are computed only if the checks hold.

        Raises:
          ValueError, tf.errors.InvalidArgumentError: As `__call__`.
        """
        del is_corrected
        return [self._checked_temperature(dtype)]

    def _checked_temperature(self, dtype):
        value = self.temperature
        if value is None:
            return tf.ones([], dtype)
        # A Python float, checked already, would pass through float32 in `tf.cast`.
        if isinstance(value, (int, float)):
            return tf.constant(value, dtype)
        value = tf.cast(value, dtype)
        message = "`temperature` must stay positive."
        return _checks.guard(
            value, tf.debugging.assert_positive(value, message=message)
        )

    def _rows_of_block(self, num_columns, scores_a_row):
        """How many rows to score at once, an int if the arguments are."""
        # A replica without rows has no columns either.
        scores_a_row = _largest(scores_a_row, 1)
        if self.row_block is not None:
            row_block = self.row_block
        else:
            least, most = _BLOCK_SCORES
            block = _least(_largest(256 * num_columns, least), most)
            block = _largest(block, 112 * num_columns)
            row_block = _largest(block // scores_a_row, 1)
        return _least(row_block, tf.int32.max // scores_a_row)

    def _prepare(self, embeddings, columns):
        """Checks and casts the arguments of a call.

        Args:
          embeddings: Those of queries, candidates and negatives (or None).
          columns: `_Columns`.

        Returns:
          The embeddings, without None; the temperature; the columns.
        """
        queries, candidates, negatives = embeddings
        queries, candidates, score_mask, _ = inputs.check_scored(
            queries, candidates, columns.score_mask
        )
        queries = tf.cast(queries, inputs.computed_in(queries, candidates))
        candidates = tf.cast(candidates, queries.dtype)
        log_q = columns.log_q
        if log_q is not None:
            log_q = tf.stop_gradient(tf.cast(log_q, queries.dtype))
            log_q = inputs.check_log_q(log_q, _checks.size(candidates))
        log_q = self._checked_log_q(log_q, queries)
        embeddings = (queries, candidates)
        columns = columns._replace(log_q=log_q, score_mask=score_mask)
        if negatives is not None:
            negatives, own_log_q, mask = inputs.check_negatives(
                negatives, columns.negative_log_q, columns.negative_mask, queries
            )
            inputs.check_both_corrected(log_q, own_log_q)
            if own_log_q is not None:
                own_log_q = tf.stop_gradient(tf.cast(own_log_q, queries.dtype))
            embeddings = (*embeddings, tf.cast(negatives, queries.dtype))
            columns = columns._replace(negative_log_q=own_log_q, negative_mask=mask)
        return embeddings, self._checked_temperature(queries.dtype), columns


# As in `SampledSoftmax.__call__`.
_Columns = collections.namedtuple(
    "_Columns", "log_q negative_log_q rules score_mask negative_mask"
)

# logits: [n, width]; positives: [n], the column of each row's positive in them;
# by_head: the products alone, [n, H, width], None without heads; mined: None, or
# where the logits came from, as columns of the `width` scored.
Scored = collections.namedtuple("Scored", "logits positives by_head mined width")


def _largest(one, other):
    """The larger of two sizes, integers or scalars."""
    return tf.maximum(one, other) if tf.is_tensor(one) else max(one, other)


def _least(one, other):
    """The smaller, likewise."""
    tensors = tf.is_tensor(one) or tf.is_tensor(other)
    return tf.minimum(one, other) if tensors else min(one, other)


def _check_number(name, value, dtypes):
    """Raises `ValueError` unless it is None, a number, or a scalar of such a dtype."""
    if value is None:
        return
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return
    dtype = getattr(value, "dtype", None)
    if dtype is None or tf.as_dtype(dtype) not in dtypes or len(value.shape):
        names = " or ".join(dtype.name for dtype in dtypes)
        raise ValueError(
            f"`{name}` must be None, a number or a scalar variable of {names}, "
            f"received {value!r}."
        )


def _best(by_head):
    """[n, width]: the best head's scores, where there are heads."""
    return tf.reduce_max(by_head, axis=1) if by_head.shape.rank == 3 else by_head


def _shared_scores(queries, candidates, log_q):
    """The products with the candidates by head, and the scores less log q.

    Without heads there are no products by head: None.
    """
    if queries.shape.rank == 3:
        by_head = scores.shared(queries, candidates)
        best = _best(by_head)
        return by_head, best if log_q is None else best - log_q
    if log_q is None:
        return None, scores.shared(queries, candidates)

    def corrected():
        # TensorFlow adds log q while it multiplies the matrices.
        return tf.nn.bias_add(scores.shared(queries, candidates), -log_q)

    # But it aborts where there is nothing to multiply.
    num_scores = _checks.size(queries) * _checks.size(candidates)
    if tf.get_static_value(num_scores):
        return None, corrected()
    return None, tf.cond(
        num_scores > 0, corrected, lambda: scores.shared(queries, candidates)
    )


def _keep(logits, mask):
    return tf.where(mask, logits, tf.constant(float("-inf"), logits.dtype))
