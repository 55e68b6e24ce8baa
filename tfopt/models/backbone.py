"""Nets of tf_keras.applications under a head of one's own: transfer learning."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from .. import backend, options
from ..errors import DataError, nearest
from ..surgery import operators, rewriting
from . import _applications
from ._blocks import Activation, Alpha, Share, head, image_input

NETS = (
    "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge", "DenseNet121", "DenseNet169", "DenseNet201",
    "EfficientNetB0", "EfficientNetB1", "EfficientNetB2", "EfficientNetB3", "EfficientNetB4", "EfficientNetB5", "EfficientNetB6",
    "EfficientNetB7", "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3", "EfficientNetV2L", "EfficientNetV2M",
    "EfficientNetV2S", "InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small",
    "NASNetLarge", "NASNetMobile", "RegNetX002", "RegNetX004", "RegNetX006", "RegNetX008", "RegNetX016", "RegNetX032", "RegNetX040",
    "RegNetX064", "RegNetX080", "RegNetX120", "RegNetX160", "RegNetX320", "RegNetY002", "RegNetY004", "RegNetY006", "RegNetY008",
    "RegNetY016", "RegNetY032", "RegNetY040", "RegNetY064", "RegNetY080", "RegNetY120", "RegNetY160", "RegNetY320", "ResNet101",
    "ResNet101V2", "ResNet152", "ResNet152V2", "ResNet50", "ResNet50V2", "ResNetRS101", "ResNetRS152", "ResNetRS200", "ResNetRS270",
    "ResNetRS350", "ResNetRS420", "ResNetRS50", "VGG16", "VGG19", "Xception",
)  # fmt: skip
_BY_LOWER = {name.lower(): name for name in NETS}


def _known(net: str) -> str:
    if net.lower() not in _BY_LOWER:
        close = difflib.get_close_matches(net.lower(), _BY_LOWER, n=1)
        raise ValueError(f"no net of tf_keras.applications; {nearest(_BY_LOWER[close[0]] if close else net, NETS)}")
    return net


Net = Annotated[str, AfterValidator(_known), "name of a net in tf_keras.applications"]
Frozen = bool | Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)]


@options.checked
def backbone(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    net: Net = "MobileNetV2",
    weights: str | Path | None = None,
    alpha: Alpha | None = None,
    frozen: Frozen = False,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """A net of `tf_keras.applications` without its top, average pooling, and a Dense.

    It takes RGB images of 0 to 1, as tfopt's data has them; what the net wants instead (Keras's `preprocess_input`, be it -1 to 1, or blue
    before red with ImageNet's mean taken off) is inside the model: a Rescaling, and for another order of the channels a first kernel whose
    inputs stand in ours. The net's layers lie flat in the model and keep Keras's names, and operations between them are layers.

    Train in two phases: the head alone on a frozen net, then with a small learning rate some or all of the net.

    >>> model = backbone((96, 96, 3), 10, net="MobileNetV2", alpha=0.35)
    >>> model.count_params(), tfopt.inspect(model).macs
    (423018, 10666928)
    >>> head = tfopt.train(backbone(data.input_shape, 10, weights="imagenet", frozen=True), data, Fit(epochs=10))
    >>> model = tfopt.train(tfopt.unfreeze(head, 30), data, Fit(epochs=10, learning_rate=1e-5))

    Args:
      net: its name, in large or small letters.
      weights: a .h5 file of Keras 2 with the net's weights, with or without a top, or of a whole model that begins with them (a saved
        backbone, too, but of ConvNeXt); "imagenet": Keras downloads them; None: random ones.
      alpha: of MobileNet, versions 1 to 3: the number of channels is that of the paper times this.
      frozen: how many of the net's layers with weights are not trained, counted from the input: a number, a share (0.5), or all (True).
        A frozen BatchNorm uses its moving averages in training, too.

    Raises:
      OptionError: weights that can't be had, or are of another net: the message names the first layer that does not fit, and both shapes;
        or `alpha` for a net that has none.
      UnsupportedModel: a file that is damaged, or holds no weights of Keras 2.
      DataError: no RGB images, or smaller ones than the net takes.
    """
    keras, name = backend.keras(), _BY_LOWER[net.lower()]
    inputs = image_input(input_shape, "backbone")
    if input_shape[2] != 3:
        raise DataError(f"backbone takes RGB images, the examples are {input_shape}; prepare gray ones with gray_to_rgb")
    x = _applications.built(name, input_shape, alpha, weights)(_applications.preprocessing(name)(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    nested = keras.Model(inputs, head(x, num_classes, activation), name=name)
    model, _ = operators.as_layers(rewriting.rebuilt(nested, _remade, weights=_weights))
    ours = [layer.name for layer in model.layers].index("average")
    of_the_net = [layer for layer in model.layers[:ours] if layer.weights]
    for layer in of_the_net[: _count(frozen, len(of_the_net))]:
        layer.trainable = False
    return model


def _remade(layer: Any) -> Any:
    if rewriting.kind(layer) == "LayerScale":  # which Keras does not load back, and a depthwise convolution computes
        return backend.keras().layers.DepthwiseConv2D(1, use_bias=False, name=layer.name)
    # Keras's 0.99 and 0.999 are for the 100,000 steps of ImageNet; see conv_bn.
    return rewriting.twin(layer, **({"momentum": 0.9} if rewriting.kind(layer) == "BatchNormalization" else {}))


def _weights(layer: Any) -> list[Any]:
    return [array.reshape(1, 1, -1, 1) if rewriting.kind(layer) == "LayerScale" else array for array in layer.get_weights()]


def _count(frozen: bool | int | float, layers: int) -> int:
    return round(float(frozen) * layers) if isinstance(frozen, bool | float) else frozen
