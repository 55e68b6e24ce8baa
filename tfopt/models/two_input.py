"""A net for two inputs: an image or a sound beside a row of a table or a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import backend, options
from ..errors import DataError
from ._blocks import Activation, Count, Share, bn_relu, conv_bn_relu, head


@options.checked
def two_input(
    input_shape: dict[str, tuple[int, ...]],
    num_classes: int,
    *,
    width: Count = 16,
    blocks: Count = 2,
    hidden: Count = 64,
    texts: Sequence[str] = (),
    words: Count = 10_000,
    embedding: Count = 64,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """A branch for each input, put side by side, and two Dense layers. There may be more than two.

    Images and features of sound (height, width, channels) go through `blocks` convolutions as of `convnet`, series and waves (length,
    channels) through convolutions along time, rows (columns,) through a Dense, and texts through an Embedding and their average.

    Args:
      width: channels of the first convolution. hidden: units of the Dense layers.
      texts: names of the inputs that are word indices (length,); other inputs of one dimension are rows of numbers.
      words, embedding: size of the vocabulary, and numbers that a word becomes.

    >>> model = two_input({"image": (16, 16, 3), "row": (5,)}, 4)
    >>> model.count_params(), tfopt.inspect(model).macs
    (12084, 412224)

    Raises:
      DataError: there is one input only, a name in `texts` is none of them, or an input has another shape.
    """
    if not isinstance(input_shape, dict) or len(input_shape) < 2:
        raise DataError(f"two_input takes the shapes of two inputs by name, got {input_shape}; for one input use convnet, mlp or textcnn")
    if unknown := [name for name in texts if name not in input_shape]:
        raise DataError(f"two_input: texts = {list(texts)}: the data has no input {unknown[0]!r}, but {', '.join(input_shape)}")
    keras = backend.keras()
    inputs, branches = [], []
    for name, shape in input_shape.items():
        is_text = name in texts
        inputs.append(keras.Input(shape, dtype="int32" if is_text else None, name=name))
        branches.append(_text(inputs[-1], words, embedding) if is_text else _branch(inputs[-1], width, blocks, hidden))
    x = keras.layers.Concatenate(name="join")(branches)
    x = keras.layers.Dense(hidden, activation="relu", name="dense")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name="two_input")


def _text(x: Any, words: int, embedding: int) -> Any:
    layers, name = backend.keras().layers, x.name
    return layers.GlobalAveragePooling1D(name=f"{name}_average")(layers.Embedding(words, embedding, name=f"{name}_embedding")(x))


def _branch(x: Any, width: int, blocks: int, hidden: int) -> Any:
    layers, name, rank = backend.keras().layers, x.name, len(x.shape) - 1
    if rank == 1:
        return layers.Dense(hidden, activation="relu", name=f"{name}_dense")(x)
    if rank not in (2, 3):
        raise DataError(f"two_input: the input {name!r} is {tuple(x.shape[1:])}; should be images, series or rows")
    for number in range(1, blocks + 1):
        channels, at = width * 2 ** (number - 1), f"{name}_conv{number}"
        if rank == 3:
            x = conv_bn_relu(x, channels, name=at)
            x = layers.MaxPooling2D(name=f"{name}_pool{number}")(x) if min(x.shape[1:3]) >= 2 else x
        else:
            x = bn_relu(layers.Conv1D(channels, 5, padding="same", use_bias=False, name=at)(x), at)
            x = layers.MaxPooling1D(name=f"{name}_pool{number}")(x) if x.shape[1] >= 2 else x
    pooling = layers.GlobalAveragePooling2D if rank == 3 else layers.GlobalAveragePooling1D
    return pooling(name=f"{name}_average")(x)
