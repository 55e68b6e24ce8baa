"""The bridge's matrix: every layer class of Keras 3 in its common configurations, each alone on an input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge_case import Case

from tfopt import bridge

keras = bridge.keras3()
L = keras.layers


def alone(name: str, shape: tuple, make: Callable[[], Any], values: str = "normal", *, dtype: str = "float32", random: bool = True) -> Case:
    """The case of a layer that takes one tensor."""

    def build():
        inputs = keras.Input(shape, dtype=dtype, name="input")
        return keras.Model(inputs, make()(inputs), name="alone")

    return Case(name, build, values, random=random)


def merging(name: str, shapes: list[tuple[int, ...]], make: Callable[[], Any], values: str = "normal", **call: Any) -> Case:
    """The case of a layer that takes a list of tensors."""

    def build():
        inputs = [keras.Input(shape, name=f"input_{index}") for index, shape in enumerate(shapes)]
        return keras.Model(inputs, make()(inputs, **call), name="merging")

    return Case(name, build, values)


IMAGE, STEPS, CUBE, ROW = (9, 8, 3), (7, 4), (6, 5, 4, 3), (6,)

CONVOLUTIONS = [
    alone("Conv1D", STEPS, lambda: L.Conv1D(5, 3)),
    alone("Conv1D: causal", STEPS, lambda: L.Conv1D(5, 3, padding="causal", dilation_rate=2)),
    alone("Conv1D: strides, same", STEPS, lambda: L.Conv1D(5, 3, strides=2, padding="same", activation="relu")),
    alone("Conv1D: groups", STEPS, lambda: L.Conv1D(6, 3, groups=2, use_bias=False)),
    alone("Conv2D", IMAGE, lambda: L.Conv2D(4, 3)),
    alone("Conv2D: same, strides", IMAGE, lambda: L.Conv2D(4, (3, 2), strides=2, padding="same")),
    alone("Conv2D: dilation", IMAGE, lambda: L.Conv2D(4, 3, dilation_rate=(2, 1), padding="same")),
    alone("Conv2D: groups", IMAGE, lambda: L.Conv2D(6, 3, groups=3)),
    alone("Conv2D: no bias, activation", IMAGE, lambda: L.Conv2D(4, 3, use_bias=False, activation="silu")),
    alone("Conv2D: data_format channels_last said", IMAGE, lambda: L.Conv2D(4, 3, data_format="channels_last")),
    alone("Conv2D: image of any size", (None, None, 3), lambda: L.Conv2D(4, 3, padding="same")),
    alone("Conv2D: regularizers, constraint", IMAGE, lambda: L.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(0.01),
          bias_regularizer="l1", activity_regularizer=keras.regularizers.L1L2(0.1, 0.2), kernel_constraint=keras.constraints.MaxNorm(2.0))),
    alone("Conv3D", CUBE, lambda: L.Conv3D(4, 3)),
    alone("Conv3D: same, strides", CUBE, lambda: L.Conv3D(4, 2, strides=(2, 1, 2), padding="same", use_bias=False)),
    alone("Conv1DTranspose", STEPS, lambda: L.Conv1DTranspose(5, 3, strides=2)),
    alone("Conv1DTranspose: same", STEPS, lambda: L.Conv1DTranspose(5, 3, strides=2, padding="same", activation="tanh")),
    alone("Conv2DTranspose", IMAGE, lambda: L.Conv2DTranspose(4, 3)),
    alone("Conv2DTranspose: same, strides", IMAGE, lambda: L.Conv2DTranspose(4, 3, strides=2, padding="same", use_bias=False)),
    alone("Conv2DTranspose: output_padding", IMAGE, lambda: L.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=1)),
    alone("Conv2DTranspose: dilation", IMAGE, lambda: L.Conv2DTranspose(4, 3, dilation_rate=2)),
    alone("Conv2DTranspose: kernel shorter than stride", IMAGE, lambda: L.Conv2DTranspose(4, 2, strides=3)),
    alone("Conv3DTranspose", CUBE, lambda: L.Conv3DTranspose(4, 3, strides=2)),
    alone("Conv3DTranspose: same", CUBE, lambda: L.Conv3DTranspose(4, 3, strides=2, padding="same")),
    alone("DepthwiseConv1D", STEPS, lambda: L.DepthwiseConv1D(3)),
    alone("DepthwiseConv1D: multiplier, strides", STEPS, lambda: L.DepthwiseConv1D(3, depth_multiplier=2, strides=2, padding="same")),
    alone("DepthwiseConv2D", IMAGE, lambda: L.DepthwiseConv2D(3)),
    alone("DepthwiseConv2D: strides, same", IMAGE, lambda: L.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)),
    alone("DepthwiseConv2D: multiplier, activation", IMAGE, lambda: L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu6")),
    alone("DepthwiseConv2D: dilation", IMAGE, lambda: L.DepthwiseConv2D(3, dilation_rate=2)),
    alone("SeparableConv1D", STEPS, lambda: L.SeparableConv1D(5, 3)),
    alone("SeparableConv1D: same, multiplier", STEPS, lambda: L.SeparableConv1D(5, 3, padding="same", depth_multiplier=2)),
    alone("SeparableConv2D", IMAGE, lambda: L.SeparableConv2D(5, 3)),
    alone("SeparableConv2D: strides, multiplier", IMAGE, lambda: L.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2,
          activation="relu")),
    alone("SeparableConv2D: dilation, no bias", IMAGE, lambda: L.SeparableConv2D(5, 3, dilation_rate=2, use_bias=False)),
]  # fmt: skip


def pooling(kind: str, *options: Any) -> list[Case]:
    """The cases of a kind of pooling over one, two and three dimensions."""

    def one(name: str, shape: tuple[int, ...]) -> Case:
        return alone(name, shape, lambda: getattr(L, name)(*options))

    return [one(f"{kind}{n}D", shape) for n, shape in ((1, STEPS), (2, IMAGE), (3, CUBE))]


POOLINGS = [
    *pooling("MaxPooling", 2),
    *pooling("AveragePooling", 2),
    *pooling("GlobalMaxPooling"),
    *pooling("GlobalAveragePooling"),
    *pooling("AdaptiveMaxPooling", 2),
    *pooling("AdaptiveAveragePooling", 2),
    alone("MaxPooling1D: strides, same", STEPS, lambda: L.MaxPooling1D(3, strides=2, padding="same")),
    alone("MaxPooling2D: strides, same", IMAGE, lambda: L.MaxPooling2D((3, 2), strides=1, padding="same")),
    alone("AveragePooling2D: strides, same", IMAGE, lambda: L.AveragePooling2D(3, strides=2, padding="same")),
    alone("AveragePooling1D: same", STEPS, lambda: L.AveragePooling1D(3, padding="same")),
    alone("GlobalAveragePooling2D: keepdims", IMAGE, lambda: L.GlobalAveragePooling2D(keepdims=True)),
    alone("GlobalMaxPooling1D: keepdims", STEPS, lambda: L.GlobalMaxPooling1D(keepdims=True)),
    alone("AdaptiveAveragePooling2D: uneven", IMAGE, lambda: L.AdaptiveAveragePooling2D((4, 3))),
]  # fmt: skip

NORMALIZATIONS = [
    alone("BatchNormalization", IMAGE, lambda: L.BatchNormalization()),
    alone("BatchNormalization: no center, no scale", IMAGE, lambda: L.BatchNormalization(center=False, scale=False, epsilon=0.1)),
    alone("BatchNormalization: axis 1", IMAGE, lambda: L.BatchNormalization(axis=1)),
    alone("BatchNormalization: on a vector", ROW, lambda: L.BatchNormalization(momentum=0.9)),
    alone("BatchNormalization: on steps", STEPS, lambda: L.BatchNormalization(scale=False)),
    alone("BatchNormalization: synchronized", IMAGE, lambda: L.BatchNormalization(synchronized=True)),
    alone("BatchNormalization: renorm", IMAGE, lambda: L.BatchNormalization(renorm=True)),
    alone("LayerNormalization", IMAGE, lambda: L.LayerNormalization()),
    alone("LayerNormalization: several axes", IMAGE, lambda: L.LayerNormalization(axis=[1, 2, 3])),
    alone("LayerNormalization: axis 1", STEPS, lambda: L.LayerNormalization(axis=1)),
    alone("LayerNormalization: no center, no scale", STEPS, lambda: L.LayerNormalization(center=False, scale=False, epsilon=1e-6)),
    alone("GroupNormalization", (9, 8, 6), lambda: L.GroupNormalization(3)),
    alone("GroupNormalization: groups=-1", IMAGE, lambda: L.GroupNormalization(groups=-1)),
    alone("GroupNormalization: groups=channels", (9, 8, 6), lambda: L.GroupNormalization(groups=6, epsilon=1e-5)),
    alone("GroupNormalization: groups=1", STEPS, lambda: L.GroupNormalization(groups=1, center=False)),
    alone("GroupNormalization: axis 1", (6, 8, 5), lambda: L.GroupNormalization(groups=2, axis=1, scale=False)),
    alone("RMSNormalization", STEPS, lambda: L.RMSNormalization()),
    alone("RMSNormalization: several axes", STEPS, lambda: L.RMSNormalization(axis=[1, 2], epsilon=0.1)),
    alone("UnitNormalization", STEPS, lambda: L.UnitNormalization()),
    alone("UnitNormalization: several axes", IMAGE, lambda: L.UnitNormalization(axis=[1, 2])),
    alone("SpectralNormalization: Conv2D", IMAGE, lambda: L.SpectralNormalization(L.Conv2D(4, 3))),
    alone("SpectralNormalization: Dense, three iterations", ROW, lambda: L.SpectralNormalization(L.Dense(4), power_iterations=3)),
    alone("Normalization: given", ROW, lambda: L.Normalization(mean=2.0, variance=3.0)),
    alone("Normalization: given for each channel", IMAGE, lambda: L.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3])),
    alone("Normalization: invert", ROW, lambda: L.Normalization(mean=2.0, variance=3.0, invert=True)),
    alone("Normalization: adapted", IMAGE, lambda: adapted(L.Normalization(), (64, *IMAGE))),
    alone("Normalization: adapted, axis None", ROW, lambda: adapted(L.Normalization(axis=None), (64, *ROW))),
    alone("Normalization: adapted, several axes", IMAGE, lambda: adapted(L.Normalization(axis=(2, 3)), (64, *IMAGE))),
]


def adapted(layer, shape):
    layer.adapt(keras.random.normal(shape, mean=1.5, stddev=2.0, seed=3))
    return layer


CORE = [
    alone("Dense", ROW, lambda: L.Dense(5)),
    alone("Dense: no bias, activation", ROW, lambda: L.Dense(5, use_bias=False, activation="relu")),
    alone("Dense: on steps", STEPS, lambda: L.Dense(5, activation="softmax")),
    alone("Dense: LoRA", ROW, lambda: L.Dense(5, lora_rank=2)),
    alone("EinsumDense", STEPS, lambda: L.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d")),
    alone("EinsumDense: two axes", STEPS, lambda: L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), activation="relu")),
    alone("Embedding", ROW, lambda: L.Embedding(8, 5), dtype="int32"),
    alone("Embedding: of float indices", ROW, lambda: L.Embedding(300, 5), "images"),
    alone("ReversibleEmbedding", ROW, lambda: L.ReversibleEmbedding(8, 5), dtype="int32"),
    Case("ReversibleEmbedding: both ways, tied", lambda: reversible()),
    Case("ReversibleEmbedding: both ways, not tied, soft cap", lambda: reversible(tie_weights=False, logit_soft_cap=2.0)),
    alone("Identity", ROW, lambda: L.Identity()),
    alone("Lambda: TensorFlow", ROW, lambda: L.Lambda(lambda x: x * 2.0 + 1.0)),
    alone("Lambda: keras.ops", ROW, lambda: L.Lambda(lambda x: keras.ops.sin(x), output_shape=ROW)),
    alone("Masking", STEPS, lambda: L.Masking(), "steps"),
    Case("InputLayer: int8", lambda: keras.Sequential([L.InputLayer(shape=(6,), dtype="int8"), L.Rescaling(0.5), L.Dense(3)])),
    Case("InputLayer: batch of 2", lambda: keras.Sequential([L.InputLayer(batch_shape=(2, 6)), L.Dense(3)])),
    Case("InputLayer: uint8 images", lambda: keras.Sequential(
        [L.InputLayer(shape=IMAGE, dtype="uint8"), L.Rescaling(1 / 127.5, -1), L.Conv2D(3, 3)]), "images"),
]  # fmt: skip


def reversible(**options):
    inputs = keras.Input(ROW, dtype="int32")
    embedding = L.ReversibleEmbedding(8, 5, **options)
    return keras.Model(inputs, embedding(embedding(inputs), reverse=True))


SHAPES = [
    alone("Flatten", IMAGE, lambda: L.Flatten()),
    alone("Flatten: a number", (), lambda: L.Flatten()),
    alone("Reshape", IMAGE, lambda: L.Reshape((8, 27))),
    alone("Reshape: -1", IMAGE, lambda: L.Reshape((-1, 4))),
    alone("Permute", IMAGE, lambda: L.Permute((3, 1, 2))),
    alone("RepeatVector", ROW, lambda: L.RepeatVector(3)),
    alone("Cropping1D", STEPS, lambda: L.Cropping1D((1, 2))),
    alone("Cropping2D", IMAGE, lambda: L.Cropping2D(((1, 2), (3, 0)))),
    alone("Cropping3D", CUBE, lambda: L.Cropping3D(((1, 2), (1, 0), (0, 1)))),
    alone("ZeroPadding1D", STEPS, lambda: L.ZeroPadding1D((1, 2))),
    alone("ZeroPadding2D", IMAGE, lambda: L.ZeroPadding2D(((1, 2), (3, 0)))),
    alone("ZeroPadding2D: symmetric", IMAGE, lambda: L.ZeroPadding2D(2)),
    alone("ZeroPadding3D", CUBE, lambda: L.ZeroPadding3D(((1, 2), (1, 0), (0, 1)))),
    alone("UpSampling1D", STEPS, lambda: L.UpSampling1D(3)),
    alone("UpSampling2D", IMAGE, lambda: L.UpSampling2D((2, 3))),
    alone("UpSampling2D: bilinear", IMAGE, lambda: L.UpSampling2D(2, interpolation="bilinear")),
    alone("UpSampling2D: bicubic", IMAGE, lambda: L.UpSampling2D(2, interpolation="bicubic")),
    alone("UpSampling2D: lanczos3", IMAGE, lambda: L.UpSampling2D(2, interpolation="lanczos3")),
    alone("UpSampling3D", CUBE, lambda: L.UpSampling3D(2)),
]

MERGING = [
    merging("Add", [ROW, ROW, ROW], lambda: L.Add()),
    merging("Add: broadcast", [STEPS, (1, 4)], lambda: L.Add()),
    merging("Subtract", [ROW, ROW], lambda: L.Subtract()),
    merging("Multiply", [ROW, ROW], lambda: L.Multiply()),
    merging("Average", [ROW, ROW, ROW], lambda: L.Average()),
    merging("Maximum", [ROW, ROW], lambda: L.Maximum()),
    merging("Minimum", [ROW, ROW], lambda: L.Minimum()),
    merging("Concatenate", [IMAGE, IMAGE], lambda: L.Concatenate()),
    merging("Concatenate: axis 1", [(2, 4), (3, 4)], lambda: L.Concatenate(axis=1)),
    merging("Dot", [ROW, ROW], lambda: L.Dot(axes=1)),
    merging("Dot: of steps", [(3, 4), (3, 5)], lambda: L.Dot(axes=(1, 1))),
    merging("Dot: normalize", [ROW, ROW], lambda: L.Dot(axes=1, normalize=True)),
    merging("Attention", [(5, 4), (7, 4)], lambda: L.Attention()),
    merging("Attention: scale, key given", [(5, 4), (7, 3), (7, 4)], lambda: L.Attention(use_scale=True)),
    merging("Attention: concat score", [(5, 4), (7, 4)], lambda: L.Attention(score_mode="concat", use_scale=True)),
    merging("Attention: causal", [(5, 4), (5, 4)], lambda: L.Attention(), use_causal_mask=True),
    merging("AdditiveAttention", [(5, 4), (7, 4)], lambda: L.AdditiveAttention()),
    merging("AdditiveAttention: no scale", [(5, 4), (7, 4)], lambda: L.AdditiveAttention(use_scale=False)),
]
