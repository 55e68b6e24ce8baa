"""Layers of tfopt's own that the converter takes to int8 where those of Keras stay float."""

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


@_keras.saving.register_keras_serializable("tfopt")
class Product(_keras.layers.Layer):
    """The product of two tensors' matrices, their last two axes; of the others each pair."""

    def call(self, inputs):
        return _tf.matmul(*inputs)
