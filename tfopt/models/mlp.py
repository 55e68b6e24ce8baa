"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import backend, options
from ._blocks import Activation, Count, Share, check_one_input, head


@options.checked
def mlp(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    hidden: Sequence[Count] = (300, 100),
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """Dense layers with ReLU, one for each width in `hidden`; the default is LeNet-300-100 (LeCun et al. 1998).

    On 28 x 28 inputs and 10 classes the default has 266,610 parameters.

    >>> model = mlp((28, 28, 1), 10)
    >>> model.count_params(), tfopt.inspect(model).macs
    (266610, 266200)
    """
    check_one_input(input_shape, "mlp")
    keras = backend.keras()
    inputs = keras.Input(input_shape, name="input")
    x = keras.layers.Flatten(name="flatten")(inputs)
    for number, width in enumerate(hidden, 1):
        x = keras.layers.Dense(width, activation="relu", name=f"dense{number}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name="mlp")
