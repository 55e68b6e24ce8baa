"""An encoder and a decoder of convolutions, for one text as another."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ..errors import DataError
from ..tasks import BEFORE
from ._blocks import Count, Share, bn_relu

TEXT = "text"


@options.checked
def seq2seq(
    input_shape: dict[str, tuple[int, ...]],
    num_classes: int,
    *,
    width: Count = 64,
    encoder: Count = 3,
    decoder: Count = 3,
    size: Count = 5,
    heads: Count = 4,
    words: Count = 10_000,
    dropout: Share = 0.1,
) -> Any:
    """For the task `sequence_to_sequence`: logits (length, num_classes), at each place from the text and the symbols before it.

    As in Gehring et al. 2017 (arXiv:1705.03122) both sides are convolutions, which see what stands around them and need no table of places:
    `encoder` blocks over the text, and `decoder` blocks over the symbols before each place, causal ones, each of which attends to what the
    encoder gives (with several heads, as in Vaswani et al. 2017). A block is a convolution, BatchNorm and ReLU, and adds its input. All of
    it becomes int8, and one run of it is the same whatever was written before: there is no state to hand on, which a recurrent decoder
    would have to take in and put out.

    Args:
      input_shape: {"text": (length,), "before": (length,)} of indices; 0 fills up and, in "before", begins.
      width: numbers at each place. encoder, decoder: blocks. size: of the convolutions, in places. heads: of attention.
      words: size of the text's vocabulary; filled in from the data where it is known.

    >>> model = seq2seq({"text": (12,), "before": (8,)}, 12, words=40)
    >>> model.count_params(), tfopt.inspect(model).macs
    (187980, 1835008)

    Raises:
      DataError: the inputs are others.
    """
    if not isinstance(input_shape, dict) or set(input_shape) != {TEXT, BEFORE} or any(len(one) != 1 for one in input_shape.values()):
        raise DataError(
            f"seq2seq takes the inputs 'text' and 'before', indices of shape (length,) each, the examples are {input_shape}; "
            "tfopt.datasets.text_pairs makes such data"
        )
    keras = backend.keras()
    layers = keras.layers
    inputs = {name: keras.Input(input_shape[name], dtype="int32", name=name) for name in (TEXT, BEFORE)}
    x = layers.Embedding(words, width, name="text_embedding")(inputs[TEXT])
    for number in range(1, encoder + 1):
        x = _block(x, size, "same", dropout, f"encoder{number}")
    y = layers.Embedding(num_classes + 1, width, name="before_embedding")(inputs[BEFORE])
    for number in range(1, decoder + 1):
        name = f"decoder{number}"
        y = _block(y, size, "causal", dropout, name)
        seen = layers.MultiHeadAttention(heads, max(1, width // heads), name=f"{name}_attention")(y, x)
        y = layers.Add(name=f"{name}_seen")([y, seen])
    y = bn_relu(layers.Dense(2 * width, use_bias=False, name="dense")(y), "dense")
    return keras.Model(list(inputs.values()), layers.Dense(num_classes, name="logits")(y), name="seq2seq")


def _block(x: Any, size: int, padding: str, dropout: float, name: str) -> Any:
    """A convolution, BatchNorm and ReLU, and its input added: (n, places, width) -> the same."""
    layers = backend.keras().layers
    y = bn_relu(layers.Conv1D(x.shape[-1], size, padding=padding, use_bias=False, name=name)(x), name)
    if dropout:
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return layers.Add(name=f"{name}_add")([x, y])
