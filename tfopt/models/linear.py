"""The linear model: logistic regression, the baseline of everything."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ._blocks import Activation, check_one_input, head


@options.checked
def linear(input_shape: tuple[int, ...], num_classes: int, *, activation: Activation = "softmax") -> Any:
    """One Dense from all values of an example to the classes.

    On 28 x 28 inputs and 10 classes it has 7,850 parameters and 7,840 MACs.

    >>> model = linear((28, 28, 1), 10)
    >>> model.count_params(), tfopt.inspect(model).macs
    (7850, 7840)
    """
    check_one_input(input_shape, "linear")
    keras = backend.keras()
    inputs = keras.Input(input_shape, name="input")
    return keras.Model(inputs, head(keras.layers.Flatten(name="flatten")(inputs), num_classes, activation), name="linear")
