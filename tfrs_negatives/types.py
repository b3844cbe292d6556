"""Names of the types that signatures share.

Modules that use them begin with `from __future__ import annotations`, so that `help`
shows these names and not what they stand for.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeAlias, Union

from numpy.typing import ArrayLike

# Names of TensorFlow's are in quotes, as commands start without it, and serving runs
# without Keras; in a `Union`, as `|` takes no quotes.
if TYPE_CHECKING:
    import tensorflow as tf

# mypy takes it for True. To mypy, TensorFlow's classes are Any: a union with them would
# check nothing, and yet complain where an optional argument was made a tensor.
MYPY = False

#: What `tf.convert_to_tensor` takes: arrays, numbers, strings, lists, Series.
if MYPY:
    TensorLike: TypeAlias = Any
else:
    TensorLike: TypeAlias = Union["tf.Tensor", "tf.Variable", ArrayLike, Sequence[Any]]

#: A list for each row: ragged where lists differ in length.
ListsLike: TypeAlias = Union[TensorLike, "tf.RaggedTensor"]

#: Vectors by name, or one vector without a name.
NamedLike: TypeAlias = TensorLike | Mapping[str, TensorLike]

#: Columns by name: a dict of arrays, a data frame, an Arrow table, `data.Interactions`.
TableLike: TypeAlias = Any

#: How often each id occurs: a vector, a mapping or a Series from id to count, a pair of
#: ids and counts, or a dataset of ids.
if MYPY:
    CountsLike: TypeAlias = Any
else:
    CountsLike: TypeAlias = Union[TensorLike, Mapping[Any, float], "tf.data.Dataset"]

#: The items of a corpus, one row an item: features by name, one feature, or a dataset.
if MYPY:
    CorpusLike: TypeAlias = Any
else:
    CorpusLike: TypeAlias = Union[NamedLike, "tf.data.Dataset"]

#: A number, or a scalar that may change or be trained, one of Keras's among them.
ScalarLike: TypeAlias = Union[SupportsFloat, "tf.Tensor", "tf.Variable"]

#: An element of a dataset: tensors by name.
Features: TypeAlias = dict[str, Any]

KerasLayer: TypeAlias = Union["tf.keras.layers.Layer"]
KerasMetric: TypeAlias = Union["tf.keras.metrics.Metric"]
KerasLoss: TypeAlias = Union["tf.keras.losses.Loss"]
KerasVariable: TypeAlias = Union["tf.Variable", "tf.keras.Variable"]
KerasModel: TypeAlias = Union["tf.keras.Model"]
KerasOptimizer: TypeAlias = Union["tf.keras.optimizers.Optimizer"]
KerasSchedule: TypeAlias = Union["tf.keras.optimizers.schedules.LearningRateSchedule"]

#: Where log q of ids comes from: a layer, or a number where all are alike.
LogQSource: TypeAlias = Union["tf.keras.layers.Layer", float]

#: A model, or any function from features of a batch to embeddings [B, d].
Tower: TypeAlias = Callable[..., "tf.Tensor"]

#: What `get_config` returns and `from_config` takes.
Config: TypeAlias = dict[str, Any]

#: Where a file or folder is.
PathLike: TypeAlias = str | os.PathLike[str]
