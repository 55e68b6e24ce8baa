"""What several builders share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .. import backend
from ..errors import DataError

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Activation = Literal["softmax", "sigmoid", "linear"]


def check_one_input(input_shape: tuple[int, ...], builder: str) -> None:
    """Refuses the shapes of several inputs.

    Raises:
      DataError: says which there are, and what takes them.
    """
    if isinstance(input_shape, dict):
        raise DataError(
            f"{builder} takes one input, the data has an array for each of {', '.join(map(repr, input_shape))}; "
            "use two_input, or a model of your own with inputs of these names"
        )


def image_input(input_shape: tuple[int, ...], builder: str) -> Any:
    """The input of a convolutional net.

    Raises:
      DataError: examples of this shape are no images.
    """
    check_one_input(input_shape, builder)
    if len(input_shape) != 3:
        raise DataError(f"{builder} takes images (height, width, channels), the examples are {input_shape}; use mlp, or reshape them")
    return backend.keras().Input(input_shape, name="input")


def conv_bn(x: Any, filters: int, *, name: str, size: int = 3, stride: int = 1, bias: bool = False) -> Any:
    """Convolution ("same" padding) and BatchNorm. A bias before BatchNorm changes nothing but is in some published nets.

    The moving statistics follow with momentum 0.9: at Keras's 0.99 they are still far off after the few hundred steps that a small data
    set gives (digits, 190 steps: 99 % right in training and 10 % in validation).
    """
    layers = backend.keras().layers
    x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=bias, name=name)(x)
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)


def head(x: Any, outputs: int, activation: str) -> Any:
    """The end of a net: a Dense "logits" and "probabilities" of it, by softmax or sigmoid; or, linear, a Dense "values" alone."""
    layers = backend.keras().layers
    if activation == "linear":
        return layers.Dense(outputs, name="values")(x)
    logits = layers.Dense(outputs, name="logits")(x)
    if activation == "sigmoid":
        return layers.Activation("sigmoid", name="probabilities")(logits)
    return layers.Softmax(name="probabilities")(logits)


def pixel_head(x: Any, outputs: int, activation: str) -> Any:
    """The same for each pixel, by a convolution of 1."""
    layers = backend.keras().layers
    values = layers.Conv2D(outputs, 1, name="values" if activation == "linear" else "logits")(x)
    if activation == "sigmoid":
        return layers.Activation("sigmoid", name="probabilities")(values)
    return values if activation == "linear" else layers.Softmax(name="probabilities")(values)


def conv_bn_relu(x: Any, filters: int, *, name: str, size: int = 3, stride: int = 1, bias: bool = False, most: float | None = None) -> Any:
    """The same with a ReLU; `most` is 6 for a ReLU6."""
    x = conv_bn(x, filters, name=name, size=size, stride=stride, bias=bias)
    return backend.keras().layers.ReLU(max_value=most, name=f"{name}_relu")(x)


def bn_relu(x: Any, name: str, most: float | None = None) -> Any:
    """BatchNorm and ReLU, behind a convolution of that name or before one."""
    layers = backend.keras().layers
    return layers.ReLU(max_value=most, name=f"{name}_relu")(layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x))


def depthwise_bn_relu(x: Any, *, name: str, size: int = 3, stride: int = 1, bias: bool = False, most: float | None = None) -> Any:
    """A convolution of each channel by itself, BatchNorm and ReLU."""
    convolution = backend.keras().layers.DepthwiseConv2D(size, strides=stride, padding="same", use_bias=bias, name=name)
    return bn_relu(convolution(x), name, most)


def first_stride(inputs: Any) -> int:
    """Of nets for large photographs, which halve the image five times: 2, and 1 for images of less than 64 pixels."""
    return 2 if min(inputs.shape[1:3]) >= 64 else 1


def rounded(channels: float, divisor: int = 8) -> int:
    """To a multiple of the divisor, and by no more than a tenth down, as in MobileNet's own code."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


def sequence(input_shape: tuple[int, ...], builder: str, words: int, width: int) -> tuple[Any, Any]:
    """The input of a net for sequences, and (n, length, channels): word indices as vectors of `width` numbers, series and features of sound
    as they are.

    Raises:
      DataError: examples of this shape are neither.
    """
    check_one_input(input_shape, builder)
    layers = backend.keras().layers
    if len(input_shape) == 1:
        inputs = backend.keras().Input(input_shape, dtype="int32", name="input")
        return inputs, layers.Embedding(words, width, name="embedding")(inputs)
    inputs = backend.keras().Input(input_shape, name="input")
    if len(input_shape) == 2:
        return inputs, inputs
    if len(input_shape) == 3 and input_shape[2] == 1:
        return inputs, layers.Reshape(input_shape[:2], name="frames")(inputs)
    raise DataError(
        f"{builder} takes word indices (length,), series (length, channels) or features of sound (frames, bins, 1), "
        f"the examples are {input_shape}"
    )


def inverted(x: Any, expansion: int, channels: int, *, stride: int, name: str, size: int = 3) -> Any:
    """An inverted residual: more channels, a depthwise convolution, fewer channels, and around it the input where the shapes agree."""
    before = x
    if expansion > 1:
        x = conv_bn_relu(x, expansion * x.shape[-1], name=f"{name}_expand", size=1, most=6.0)
    x = depthwise_bn_relu(x, name=f"{name}_depthwise", size=size, stride=stride, most=6.0)
    x = conv_bn(x, channels, name=f"{name}_project", size=1)
    same = stride == 1 and before.shape[-1] == channels
    return backend.keras().layers.Add(name=f"{name}_add")([before, x]) if same else x


def encoded(x: Any, heads: int, hidden: int, dropout: float, *, name: str) -> Any:
    """A block of an encoder: (n, places, width) -> the same."""
    layers, width = backend.keras().layers, x.shape[-1]
    y = layers.LayerNormalization(name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(heads, max(1, width // heads), dropout=dropout, name=f"{name}_attention")(y, y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(name=f"{name}_norm2")(x)
    y = layers.Dense(hidden, activation="gelu", name=f"{name}_dense1")(y)
    y = layers.Dense(width, name=f"{name}_dense2")(y)
    if dropout:
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def halving(size: tuple[int, ...]) -> tuple[int, ...]:
    """2 along each axis on which there is something to halve."""
    return tuple(2 if length > 1 else 1 for length in size)


def enlarged(x: Any, size: tuple[int, ...], name: str) -> Any:
    """Twice as long along each axis on which it was halved from `size`, and cut to that."""
    layers, axes, factors = backend.keras().layers, len(size), halving(size)
    if max(factors) > 1:
        x = getattr(layers, f"UpSampling{axes}D")(factors if axes == 2 else factors[0], name=f"{name}_up")(x)
    over = [(0, now - then) for now, then in zip(x.shape[1:-1], size, strict=True)]
    if not any(more for _, more in over):
        return x
    return getattr(layers, f"Cropping{axes}D")(over if axes == 2 else over[0], name=f"{name}_crop")(x)
