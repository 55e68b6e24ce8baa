"""A convolution of tfopt's own, for quantization-aware models."""

from __future__ import annotations

from .. import backend

_keras, _tf = backend.keras(), backend.tensorflow()


@_keras.saving.register_keras_serializable("tfopt")
class DirectConv2D(_keras.layers.Conv2D):
    """A Conv2D, channels last, as one operation where it is dilated.

    Keras makes three of it: parts of the image laid beside each other, a convolution, and the parts laid back. With a rounding in between
    the converter does not find the convolution in them again, and computes it in float.
    """

    def convolution_op(self, inputs, kernel):
        return _tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)
