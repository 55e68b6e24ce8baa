"""Recurrent nets for texts and series: LSTM, GRU, and an LSTM that reads in both directions."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ._blocks import Activation, Count, Share, head, sequence


@options.checked
def lstm(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    units: Count = 64,
    depth: Count = 1,
    words: Count = 10_000,
    embedding: Count = 64,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """`depth` LSTMs (Hochreiter & Schmidhuber 1997) one behind the other, and a Dense on what the last one ends with.

    Args:
      words: size of the vocabulary, where examples are word indices (length,); filled in from the data where it is known.
      embedding: numbers that a word becomes.

    >>> model = lstm((40,), 6, words=1000)
    >>> model.count_params(), tfopt.inspect(model).macs
    (97414, 1311104)
    """

    def layer(**given: Any) -> Any:
        return backend.keras().layers.LSTM(units, **given)

    return _recurrent("lstm", layer, input_shape, num_classes, depth, words, embedding, dropout, activation)


@options.checked
def gru(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    units: Count = 64,
    depth: Count = 1,
    words: Count = 10_000,
    embedding: Count = 64,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """The same with GRUs (Cho et al. 2014, arXiv:1406.1078).

    >>> model = gru((40,), 6, words=1000)
    >>> model.count_params(), tfopt.inspect(model).macs
    (89350, 983424)
    """

    def layer(**given: Any) -> Any:
        return backend.keras().layers.GRU(units, **given)

    return _recurrent("gru", layer, input_shape, num_classes, depth, words, embedding, dropout, activation)


@options.checked
def bilstm(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    units: Count = 64,
    depth: Count = 1,
    words: Count = 10_000,
    embedding: Count = 64,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """The same with pairs of LSTMs, one of which reads from the end (Graves & Schmidhuber 2005).

    >>> model = bilstm((40,), 6, words=1000)
    >>> model.count_params(), tfopt.inspect(model).macs
    (130822, 2622208)
    """

    def layer(name: str, **given: Any) -> Any:
        layers = backend.keras().layers
        return layers.Bidirectional(layers.LSTM(units, name=f"{name}_one_way", **given), name=name)

    return _recurrent("bilstm", layer, input_shape, num_classes, depth, words, embedding, dropout, activation)


def _recurrent(
    name: str,
    layer: Any,
    input_shape: tuple[int, ...],
    num_classes: int,
    depth: int,
    words: int,
    embedding: int,
    dropout: float,
    activation: str,
) -> Any:
    keras = backend.keras()
    inputs, x = sequence(input_shape, name, words, embedding)
    for number in range(1, depth + 1):
        x = layer(name=f"{name}{number}", return_sequences=number < depth)(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name=name)
