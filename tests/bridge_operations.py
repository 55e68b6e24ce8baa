"""The bridge's matrix: operators and `keras.ops` on the tensors of a functional model, each between a Conv2D or Dense and the output."""

from __future__ import annotations

import numpy as np
from bridge_case import Case
from bridge_layers import L, keras

ops = keras.ops
CONSTANT = np.random.default_rng(7).normal(size=(8,)).astype("float32")
KERNEL = np.random.default_rng(9).normal(size=(3, 3, 4, 5)).astype("float32")
TABLE = np.random.default_rng(8).normal(size=(5, 3)).astype("float32")


def on_row(name: str, function, values: str = "normal") -> Case:
    """`function` of the 8 outputs of a Dense, with that Dense's own inputs, 8 too, beside them."""

    def build():
        x = keras.Input((8,), name="input")
        y = L.Dense(8, name="dense")(x)
        return keras.Model(x, function(x if values == "positive" else y, x), name="row")

    return Case(name, build, values)


def on_image(name: str, function, shape=(6, 8, 4)) -> Case:
    """`function` of the outputs (6, 8, 4) of a Conv2D."""

    def build():
        x = keras.Input(shape, name="input")
        return keras.Model(x, function(L.Conv2D(4, 1, name="first")(x)), name="image")

    return Case(name, build)


def on_steps(name: str, function) -> Case:
    """`function` of two tensors (5, 8), the outputs of two Dense."""

    def build():
        x = keras.Input((5, 8), name="input")
        return keras.Model(x, function(L.Dense(8, name="a")(x), L.Dense(8, name="b")(x)), name="steps")

    return Case(name, build)


OPERATORS = [
    on_row("x + y", lambda x, y: x + y),
    on_row("x - y", lambda x, y: x - y),
    on_row("x * y", lambda x, y: x * y),
    on_row("x / y", lambda x, y: x / (y * y + 1)),
    on_row("x * 2", lambda x, y: x * 2),
    on_row("x + 0.5", lambda x, y: x + 0.5),
    on_row("1 - x", lambda x, y: 1 - x),
    on_row("1 / x", lambda x, y: 1 / (x * x + 1)),
    on_row("x / 4", lambda x, y: x / 4),
    on_row("-x", lambda x, y: -x),
    on_row("abs(x)", lambda x, y: abs(x)),
    on_row("x ** 2", lambda x, y: x**2),
    on_row("x ** y", lambda x, y: (abs(x) + 0.5) ** y),
    on_row("x // 1", lambda x, y: x // 1),
    on_row("x % 1", lambda x, y: x % 1),
    on_row("x + constant", lambda x, y: x + CONSTANT),
    on_row("constant * x", lambda x, y: ops.convert_to_tensor(CONSTANT) * x),
    on_row("comparisons", lambda x, y: ops.where((x > y) & (x < 2), x, y)),
    on_row("x[:, 0]", lambda x, y: x[:, 0]),
    on_row("x[:, 2:7:2]", lambda x, y: x[:, 2:7:2]),
    on_row("x[:, ::-1]", lambda x, y: x[:, ::-1]),
    on_row("x[..., None]", lambda x, y: x[..., None]),
    on_image("x[:, 1:-1, ...]", lambda x: x[:, 1:-1, ...]),
    on_steps("x @ y", lambda x, y: x @ ops.transpose(y, (0, 2, 1))),
    on_row("x @ constant", lambda x, y: x[:, :5] @ TABLE),
]

UNARY = [
    "abs", "arcsinh", "arctan", "ceil", "celu", "cos", "cosh", "elu", "erf", "exp", "expm1", "floor", "gelu", "glu", "hard_sigmoid",
    "hard_silu", "leaky_relu", "log_sigmoid", "log_softmax", "negative", "relu", "relu6", "round", "selu",
    "sigmoid", "sign", "silu", "sin", "sinh", "softmax", "softplus", "softsign", "sparsemax", "square", "squareplus", "stop_gradient",
    "tan", "tanh",
]  # fmt: skip
OF_POSITIVE = ["sqrt", "rsqrt", "log", "log2", "log10", "log1p", "reciprocal"]
BINARY = ["add", "subtract", "multiply", "maximum", "minimum", "arctan2", "logaddexp"]


def unary(name: str, values: str = "normal") -> Case:
    return on_row(f"ops.{name}", lambda x, y: getattr(ops, name)(x), values)


ELEMENTWISE = [
    *(on_row(f"ops.{name}", getattr(ops, name)) for name in BINARY),
    *(unary(name) for name in UNARY),
    *(unary(name, "positive") for name in OF_POSITIVE),
    on_row("ops.isfinite", lambda x, y: ops.isfinite(ops.log(x))),
    on_row("ops.logical_not", lambda x, y: ops.logical_not(x > 0)),
    on_row("ops.threshold", lambda x, y: ops.threshold(x, 0.2, 0.5)),
    on_row("ops.gelu: exact", lambda x, y: ops.gelu(x, approximate=False)),
    on_row("ops.leaky_relu: slope", lambda x, y: ops.leaky_relu(x, negative_slope=0.05)),
    on_row("ops.divide", lambda x, y: ops.divide(x, 3.0)),
    on_row("ops.true_divide", lambda x, y: ops.true_divide(x, y * y + 1)),
    on_row("ops.divide_no_nan", lambda x, y: ops.divide_no_nan(x, ops.relu(y))),
    on_row("ops.power", lambda x, y: ops.power(abs(x) + 0.5, 1.5)),
    on_row("ops.clip", lambda x, y: ops.clip(x, -0.5, 0.7)),
    on_row("ops.where", lambda x, y: ops.where(ops.greater(x, 0.0), x, y * 0.1)),
    on_row("ops.cast", lambda x, y: ops.cast(ops.cast(x, "int32"), "float32") + y),
    on_row("ops.logical_and", lambda x, y: ops.cast(ops.logical_and(x > 0, y > 0), "float32")),
    on_row("ops.equal", lambda x, y: ops.where(ops.equal(ops.argmax(x, axis=-1, keepdims=True), 3), x, y)),
]  # fmt: skip


def reduction(name: str) -> Case:
    return on_image(f"ops.{name}", lambda x: getattr(ops, name)(x, axis=(1, 2)))


REDUCTIONS = [
    *(reduction(name) for name in ("mean", "sum", "max", "min", "std", "var", "logsumexp")),
    on_image("ops.mean: keepdims", lambda x: ops.mean(x, axis=[1, 2], keepdims=True)),
    on_image("ops.amax", lambda x: ops.amax(x, axis=-1)),
    on_row("ops.prod", lambda x, y: ops.prod(x, axis=-1)),
    on_row("ops.argmax", lambda x, y: ops.argmax(x, axis=-1)),
    on_row("ops.norm", lambda x, y: ops.norm(x, axis=-1)),
    on_row("ops.normalize", lambda x, y: ops.normalize(x, axis=-1)),
    on_row("ops.cumsum", lambda x, y: ops.cumsum(x, axis=1)),
    on_row("ops.any", lambda x, y: ops.where(ops.any(x > 1, axis=1, keepdims=True), x, y)),
    on_row("ops.top_k", lambda x, y: ops.top_k(x, 3)[0]),
    on_row("ops.sort", lambda x, y: ops.sort(x, axis=-1)),
    on_image("ops.moments", lambda x: ops.add(*ops.moments(x, axes=[1, 2]))),
]  # fmt: skip

SHAPES = [
    on_image("ops.reshape", lambda x: ops.reshape(x, (-1, 48, 4))),
    on_image("ops.transpose", lambda x: ops.transpose(x, (0, 3, 1, 2))),
    on_image("ops.pad", lambda x: ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]])),
    on_image("ops.pad: reflect", lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")),
    on_image("ops.pad: constant", lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=2.0)),
    on_image("ops.squeeze", lambda x: ops.squeeze(ops.mean(x, axis=1, keepdims=True), axis=1)),
    on_image("ops.swapaxes, ops.moveaxis", lambda x: ops.moveaxis(ops.swapaxes(x, 1, 2), 3, 1)),
    on_image("ops.flip, ops.roll", lambda x: ops.roll(ops.flip(x, axis=2), 2, axis=1)),
    on_image("ops.split", lambda x: ops.split(x, 2, axis=-1)[1] * 2),
    on_image("ops.split: at indices", lambda x: ops.split(x, [1, 3], axis=-1)[1]),
    on_image("ops.unstack", lambda x: ops.unstack(x, axis=1)[2]),
    on_steps("ops.concatenate", lambda x, y: ops.concatenate([x, y], axis=-1)),
    on_steps("ops.stack", lambda x, y: ops.stack([x, y], axis=1)),
    on_steps("ops.hstack", lambda x, y: ops.hstack([x, y])),
    on_row("ops.expand_dims", lambda x, y: ops.expand_dims(x, 1)),
    on_row("ops.repeat", lambda x, y: ops.repeat(x, 2, axis=1)),
    on_row("ops.tile", lambda x, y: ops.tile(x, (1, 3))),
    on_row("ops.broadcast_to", lambda x, y: x * ops.broadcast_to(CONSTANT, (3, 1, 8))[0]),
    on_row("ops.take", lambda x, y: ops.take(x, [3, 1, 1], axis=1)),
    on_row("ops.take_along_axis", lambda x, y: ops.take_along_axis(x, ops.argmax(y, axis=1, keepdims=True), axis=1)),
    on_row("ops.one_hot", lambda x, y: ops.one_hot(ops.argmax(x, axis=1), 8)),
    on_row("ops.zeros_like, ops.ones_like", lambda x, y: x + ops.zeros_like(y) + ops.ones_like(y)),
    on_row("ops.full_like", lambda x, y: x + ops.full_like(y, 3.0)),
    on_image("ops.shape", lambda x: ops.reshape(x, (-1, ops.shape(x)[1] * ops.shape(x)[2], 4))),
    on_image("ops.slice", lambda x: x + ops.slice(ops.convert_to_tensor(KERNEL), (1, 1, 0, 2), (1, 1, 4, 1))[:, :, :, 0]),
    on_image("ops.diagonal, ops.tril", lambda x: ops.tril(ops.transpose(x, (0, 3, 1, 2)))),
]

PRODUCTS = [
    on_steps("ops.matmul", lambda x, y: ops.matmul(x, ops.swapaxes(y, 1, 2))),
    on_steps("ops.einsum", lambda x, y: ops.einsum("bij,bkj->bik", x, y)),
    on_steps("ops.einsum: constant", lambda x, y: ops.einsum("bij,jk->bik", x[..., :5], TABLE)),
    on_row("ops.dot", lambda x, y: ops.dot(x[:, :5], TABLE)),
    on_row("ops.tensordot", lambda x, y: ops.tensordot(x[:, :5], ops.convert_to_tensor(TABLE), axes=1)),
    on_row("ops.outer", lambda x, y: ops.multiply(x[:, :, None], y[:, None, :])),
    on_steps("ops.dot_product_attention", lambda x, y: ops.dot_product_attention(x[:, :, None], y[:, :, None], x[:, :, None])),
]

IMAGES = [
    on_image("ops.image.resize", lambda x: ops.image.resize(x, (12, 12))),
    on_image("ops.image.resize: nearest", lambda x: ops.image.resize(x, (3, 4), interpolation="nearest")),
    on_image("ops.image.rgb_to_grayscale", lambda x: ops.image.rgb_to_grayscale(x[..., :3])),
    on_image("ops.image.crop_images", lambda x: ops.image.crop_images(x, 1, 1, target_height=3, target_width=4)),
    on_image("ops.image.pad_images", lambda x: ops.image.pad_images(x, 1, 1, target_height=9, target_width=10)),
    on_image("ops.max_pool", lambda x: ops.max_pool(x, 2)),
    on_image("ops.average_pool", lambda x: ops.average_pool(x, 3, strides=2, padding="same")),
    on_image("ops.conv", lambda x: ops.conv(x, KERNEL, padding="same")),
    on_image("ops.depthwise_conv", lambda x: ops.depthwise_conv(x, KERNEL[..., :1], padding="same")),
    on_image("ops.batch_normalization", lambda x: ops.batch_normalization(x, CONSTANT[:4], abs(CONSTANT[4:]) + 0.5, axis=-1)),
    on_image("ops.depth_to_space", lambda x: ops.depth_to_space(x, 2)),
    on_image("ops.rms_normalization", lambda x: ops.rms_normalization(x)),
]
