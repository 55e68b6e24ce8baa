"""The convolutional net for sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import backend, options
from ._blocks import Activation, Count, Share, head, sequence


@options.checked
def textcnn(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    filters: Count = 100,
    sizes: Sequence[Count] = (3, 4, 5),
    words: Count = 10_000,
    embedding: Count = 128,
    dropout: Share = 0.5,
    activation: Activation = "softmax",
) -> Any:
    """Convolutions over three, four and five words side by side, the largest answer of each filter, and a Dense (Kim 2014,
    arXiv:1408.5882).

    Args:
      filters: of each size. sizes: in words.
      words: size of the vocabulary; filled in from the data where it is known. embedding: numbers that a word becomes.

    >>> model = textcnn((40,), 6, words=1000)
    >>> model.count_params(), tfopt.inspect(model).macs
    (283706, 6145800)
    """
    keras = backend.keras()
    layers = keras.layers
    inputs, x = sequence(input_shape, "textcnn", words, embedding)
    answers = []
    for size in sizes:
        y = layers.Conv1D(filters, size, padding="same", activation="relu", name=f"conv{size}")(x)
        answers.append(layers.GlobalMaxPooling1D(name=f"largest{size}")(y))
    x = layers.Concatenate(name="join")(answers) if len(answers) > 1 else answers[0]
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name="textcnn")
