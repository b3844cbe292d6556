"""Sums a loss over row blocks, with gradients formed in the forward pass.

A retrieval loss compares every row with every column, but its value is a sum
over rows. So the rows are taken block by block, and each block's gradients are
formed while its scores are at hand; what is kept is of the size of the
embeddings, never rows x columns. (GradCache, Gao et al. 2021, and cut
cross-entropy, Wijmans et al. 2025, are built on the same observation.)

`block(rows, queries, candidates[, negatives])` stands below for a function of one
block: it returns the losses [n] of the n rows in `rows` and a function from the
rows' queries, each times its weight, to `(d_queries, d_candidates[, d_negatives])`.
These are the gradients of the losses in the queries, [n, ...] and still without
weights, and of their weighted sum in the candidates, transposed to [d, C] (a product
that reads the scores as they lie in memory is the faster one), and in the rows' own
negatives, [n, M, d].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses.in_place import never_constant

#: A function of one block, as `block` above.
Block: TypeAlias = Callable[..., tuple[tf.Tensor, Callable[[tf.Tensor], tuple]]]

#: A function from inputs and weights (or None) to the losses [B] and, given weights,
#: the gradients of their weighted sum in the inputs.
Run: TypeAlias = Callable[..., tuple[tf.Tensor, Any]]


class Order(NamedTuple):
    """An order of the rows of a batch, and how it is cut into blocks.

    Attributes:
      rows: [B] int32, a permutation: which rows come first.
      is_changed: Scalar bool. If not, `rows` are the rows as they are.
      ends: [num_blocks] int32, where each block ends, ascending to B.
    """

    rows: tf.Tensor
    is_changed: tf.Tensor
    ends: tf.Tensor

    def of(self, tensor: tf.Tensor) -> tf.Tensor:
        """The rows [B, ...] of a tensor in this order."""
        return tf.cond(
            self.is_changed, lambda: tf.gather(tensor, self.rows), lambda: tensor
        )

    def undone(self, tensor: tf.Tensor) -> tf.Tensor:
        """The inverse of `of`."""
        return tf.cond(
            self.is_changed,
            lambda: tf.gather(tensor, tf.math.invert_permutation(self.rows)),
            lambda: tensor,
        )


class Partition(NamedTuple):
    """How a batch is cut into blocks of rows.

    Attributes:
      num_blocks: At least 1, an int where it is known while tracing. So many that none
        of the blocks, of ceil(B / num_blocks) rows but for the last, is empty.
      overlap: Scalar bool, whether a block may start before the one before it is done.
        While one block is written to by a single core, the next one's products then
        keep the others busy; two blocks are in memory.
      order: The order in which rows are taken, which has blocks of its own; None: as
        they are.
    """

    num_blocks: int | tf.Tensor
    overlap: bool | tf.Tensor
    order: Order | None = None


class AllRows:
    """All rows of the batch, as one block.

    Args:
      size: An int where it is known while tracing, else a scalar int32.
    """

    #: Scalar bool, whether rows were brought in an order; None: they never are.
    is_ordered: tf.Tensor | None = None

    def __init__(self, size: int | tf.Tensor) -> None:
        self.size = size

    def of(self, tensor: tf.Tensor) -> tf.Tensor:
        """These rows of a tensor, which may have more; its other dimensions whole."""
        known = isinstance(self.size, int) and self.size == tensor.shape[0]
        return tensor if known else tensor[: self.size]

    @property
    def indices(self) -> tf.Tensor:
        """[size] int32."""
        return tf.range(self.size)

    def are_own(self, places: tf.Tensor, num_columns: tf.Tensor) -> tf.Tensor:
        """Which places [p] in the rows' scores hold a row's own positive."""
        # Row i's positive is column i: these places are C + 1 apart.
        return tf.equal(places % (num_columns + 1), 0)


class RowBlock:
    """The rows `begin:begin + size` of the batch, in the place of `AllRows`.

    Args:
      begin: Scalar int32.
      size: An int where it is known while tracing, else a scalar int32.
    """

    is_ordered: tf.Tensor | None = None

    def __init__(self, begin: tf.Tensor, size: int | tf.Tensor) -> None:
        self.begin = begin
        self.size = size

    def of(self, tensor: tf.Tensor) -> tf.Tensor:
        """These rows of a tensor, its other dimensions whole."""
        rank = tensor.shape.rank
        begin = tf.concat([[self.begin], tf.zeros([rank - 1], tf.int32)], 0)
        size = tf.concat([[self.size], tf.shape(tensor)[1:]], 0)
        rows = tf.slice(tensor, begin, size)
        known = self.size if isinstance(self.size, int) else None
        return tf.ensure_shape(rows, [known, *tensor.shape[1:]])

    @property
    def indices(self) -> tf.Tensor:
        """[size] int32."""
        return self.begin + tf.range(self.size)

    def are_own(self, places: tf.Tensor, num_columns: tf.Tensor) -> tf.Tensor:
        """Which places [p] in the rows' scores hold a row's own positive."""
        # As in `AllRows`, from the block's first row on.
        return tf.equal((places - self.begin) % (num_columns + 1), 0)


class ChosenRows:
    """A block of any rows of the batch.

    Args:
      indices: [n] int32, distinct.
    """

    is_ordered: tf.Tensor | None = None

    def __init__(self, indices: tf.Tensor) -> None:
        self.indices = indices
        self.size = tf.size(indices)

    def of(self, tensor: tf.Tensor) -> tf.Tensor:
        """These rows of a tensor."""
        return tf.gather(tensor, self.indices)

    def are_own(self, places: tf.Tensor, num_columns: tf.Tensor) -> tf.Tensor:
        """Which places [p] in the rows' scores hold a row's own positive."""
        rows = places // num_columns
        return tf.equal(places - rows * num_columns, tf.gather(self.indices, rows))


class OrderedBlock(ChosenRows):
    """A block of the rows in another order.

    Args:
      block: Places in the order.
      order: Of all rows.
    """

    def __init__(self, block: RowBlock, order: Order) -> None:
        super().__init__(block.of(order.rows))
        self._block, self.is_ordered = block, order.is_changed
        self.size = block.size

    def of(self, tensor: tf.Tensor) -> tf.Tensor:
        """These rows of a tensor, its other dimensions whole."""
        if tensor.shape.rank == 1:
            return tf.gather(tensor, self.indices)
        # To cut wide rows out takes a fraction of the time.
        return tf.cond(
            self.is_ordered,
            lambda: tf.gather(tensor, self.indices),
            lambda: self._block.of(tensor),
        )


#: Any of them.
AnyRows: TypeAlias = AllRows | RowBlock | ChosenRows


def weighted_sum(
    run: Run, inputs: Sequence[tf.Tensor], weights: tf.Tensor
) -> tf.Tensor:
    """Returns sum_i weights[i] * loss_i.

    Args:
      run: See `Run`.
      inputs: Floating-point tensors.
      weights: [B], of the losses' dtype.

    Returns:
      Scalar, differentiable once in the inputs and the weights.
    """

    @tf.custom_gradient
    def value(weights: tf.Tensor, *inputs: tf.Tensor) -> tuple:
        losses, gradients = run(inputs, weights)

        def gradient(upstream: tf.Tensor) -> tuple:
            upstream = _once(upstream, weights, *inputs)
            return upstream * losses, *(upstream * g for g in gradients)

        return tf.reduce_sum(weights * losses), gradient

    return value(weights, *inputs)


def each_row(run: Run, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the losses [B].

    The gradients wait for the weight that each row gets downstream, so the
    blocks are formed a second time in the backward pass.

    Args:
      run, inputs: As in `weighted_sum`.

    Returns:
      [B], differentiable once in the inputs.
    """

    @tf.custom_gradient
    def value(*inputs: tf.Tensor) -> tuple:
        losses, _ = run(inputs, None)

        def gradient(upstream: tf.Tensor) -> tuple:
            upstream = _once(upstream, *inputs)
            _, gradients = run(inputs, upstream)
            return gradients

        return losses, gradient

    return value(*inputs)


def scale_rows(rows: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """rows[i] * factors[i], for [n, ...] rows and [n] factors."""
    return rows * tf.reshape(factors, [-1] + [1] * (rows.shape.rank - 1))


def run(
    block: Block,
    partition: Partition,
    inputs: Sequence[tf.Tensor],
    weights: tf.Tensor | None,
    unweighted: bool = False,
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...] | None]:
    """The losses and, given weights, the gradients of their weighted sum.

    Args:
      block: See above.
      partition: `Partition`.
      inputs: `(queries, candidates, temperature)` or these and `negatives`:
        queries [B, ...], taken in blocks of rows; candidates [C, d], whole in
        every block; a scalar temperature that queries are divided by; negatives
        [B, M, d], taken in blocks of rows.
      weights: [B] or None.
      unweighted: Whether the weights, if given, are known to be ones.

    Returns:
      [B], and one gradient for each input, or None without weights.
    """
    queries, candidates, temperature, *negatives = inputs
    num_blocks, _, order = partition
    # At once, not by block: for a thousandth of the scores' numbers it is the number
    # of operations that counts.
    scaled = queries / never_constant(temperature)
    factors = None if unweighted else weights
    if order is not None:
        scaled = order.of(scaled)
        factors = None if factors is None else order.of(factors)

    def of_rows(rows: AnyRows, places: AllRows | RowBlock) -> tuple:
        """The rows' losses; gradients in what is theirs; and in the candidates."""
        here = places.of(scaled)
        losses, gradients = block(rows, here, candidates, *map(rows.of, negatives))
        if weights is None:
            return losses, [], None
        if factors is not None:
            here = scale_rows(here, places.of(factors))
        d_queries, d_candidates, *d_negatives = gradients(here)
        return losses, [d_queries, *d_negatives], d_candidates

    if isinstance(num_blocks, int) and num_blocks == 1:
        size = queries.shape[0]
        rows = AllRows(tf.shape(queries)[0] if size is None else size)
        losses, of_each, d_candidates = of_rows(rows, rows)
    else:
        shapes = [queries.shape[:1]]
        if weights is not None:
            shapes += [tensor.shape for tensor in (queries, *negatives)]
        losses, of_each, d_candidates = _in_turn(
            of_rows, partition, shapes, queries, candidates
        )
    if weights is None:
        return losses, None
    d_queries, *d_negatives = of_each
    if unweighted:
        d_queries /= temperature
    else:
        d_queries = scale_rows(d_queries, weights / temperature)
    return losses, in_inputs(queries, temperature, d_queries, d_candidates, d_negatives)


def in_inputs(
    queries: tf.Tensor,
    temperature: tf.Tensor,
    d_queries: tf.Tensor,
    d_candidates: tf.Tensor,
    d_negatives: Sequence[tf.Tensor],
) -> tuple[tf.Tensor, ...]:
    """The gradients in all inputs of `run`, from those in what is multiplied.

    Args:
      queries, temperature: Inputs of `run`.
      d_queries: Of the queries' shape.
      d_candidates: [d, C].
      d_negatives: That in the rows' own negatives, if there are any.
    """
    # The loss depends on queries and temperature through their quotient alone.
    d_temperature = -tf.reduce_sum(queries * d_queries) / temperature
    return d_queries, tf.transpose(d_candidates), d_temperature, *d_negatives


def _in_turn(
    of_rows: Callable[..., tuple],
    partition: Partition,
    shapes: Sequence[tf.TensorShape],
    queries: tf.Tensor,
    candidates: tf.Tensor,
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
    """What `of_rows` returns, block by block: rows joined, candidates' added up.

    Args:
      of_rows: Function from rows, and from their places in the order, to the losses
        [n], a list of tensors [n, ...], and [d, C] or None.
      partition: `Partition`.
      shapes: Of the losses and of the list's tensors, [B, ...].
      queries, candidates: [B, ...] and [C, d].

    Returns:
      The losses [B], the other tensors [B, ...], and the sum of what is [d, C] or None.
    """
    num_blocks, overlap, order = partition
    num_columns, width = tf.unstack(tf.shape(candidates))
    ends = equal_ends(_checks.size(queries), num_blocks)
    if order is not None:
        ends = order.ends
        num_blocks = tf.size(ends)
    begins = tf.concat([[0], ends[:-1]], axis=0)

    def one_block(index: tf.Tensor, lists: list, d_candidates: tf.Tensor) -> tuple:
        places = RowBlock(begins[index], ends[index] - begins[index])
        rows = places if order is None else OrderedBlock(places, order)
        losses, of_each, d_candidates_here = of_rows(rows, places)
        if d_candidates_here is not None:
            d_candidates = _add(d_candidates, d_candidates_here)
        lists = [
            blocks.write(index, output)
            for blocks, output in zip(lists, [losses, *of_each], strict=True)
        ]

        def after_this_block() -> tf.Tensor:
            # Its losses, not its gradients, which an evaluation does not form.
            with tf.control_dependencies([losses[:1]]):
                return tf.identity(index)

        overlaps = tf.convert_to_tensor(overlap)
        index = tf.cond(overlaps, lambda: index, after_this_block)
        return index + 1, lists, d_candidates

    lists = [
        tf.TensorArray(
            queries.dtype,
            size=num_blocks,
            infer_shape=False,
            element_shape=[None, *shape[1:]],
        )
        for shape in shapes
    ]
    _, lists, d_candidates = tf.while_loop(
        lambda index, *_: index < num_blocks,
        one_block,
        (0, lists, tf.zeros([width, num_columns], candidates.dtype)),
        parallel_iterations=2,
    )
    joined = [
        tf.ensure_shape(blocks.concat(), shape)
        for blocks, shape in zip(lists, shapes, strict=True)
    ]
    losses, *of_each = joined if order is None else map(order.undone, joined)
    return losses, of_each, d_candidates


def equal_ends(num_rows: tf.Tensor, num_blocks: int | tf.Tensor) -> tf.Tensor:
    """[num_blocks] int32, the ends of blocks of ceil(B / num_blocks) rows."""
    size = -(-num_rows // num_blocks)
    return tf.minimum((tf.range(num_blocks) + 1) * size, num_rows)


def _add(total: tf.Tensor, more: tf.Tensor) -> tf.Tensor:
    """Their sum, of the shape of `total` as far as it is known while tracing.

    A loop needs that: a slice of a size that is known at run time alone has a shape of
    which nothing is known, also where the total's is.
    """
    return tf.ensure_shape(total + more, total.shape)


def _once(upstream: tf.Tensor, *inputs: tf.Tensor) -> tf.Tensor:
    """Lets `upstream` through, and refuses a second derivative loudly.

    The gradients above are values, not functions of the inputs: without this a
    gradient of a gradient would silently miss their part.
    """

    @tf.custom_gradient
    def identity(upstream: tf.Tensor, *inputs: tf.Tensor) -> tuple:
        def gradient(_: tf.Tensor) -> None:
            raise LookupError(
                "SampledSoftmax forms its gradients in the forward pass and has "
                "no second-order gradients. For gradient penalties use a dense "
                "loss: pass `loss=` a Keras loss to the task."
            )

        return tf.identity(upstream), gradient

    return identity(upstream, *inputs)
