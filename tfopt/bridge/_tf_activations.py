"""The activations of Keras 3 that Keras 2 does not have, or that have other values there under the same name.

Each computes what `keras.activations` says under its name.
"""

from __future__ import annotations

from .. import backend
from ._keras3 import keras3

_tf = backend.tensorflow()


def hard_sigmoid(x):
    """relu6(x + 3) / 6. Keras 2's function of this name is clip(0.2 x + 0.5, 0, 1)."""
    return _tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


def hard_silu(x):
    """Gives x * hard_sigmoid(x), also called hard swish."""
    return x * hard_sigmoid(x)


def log_sigmoid(x):
    """log(1 / (1 + exp(-x)))."""
    return _tf.math.log_sigmoid(x)


def log_softmax(x, axis=-1):
    """Gives x - log(sum(exp(x)))."""
    return _tf.nn.log_softmax(x, axis=axis)


def squareplus(x, b=4):
    """(x + sqrt(x^2 + b)) / 2."""
    return (x + _tf.sqrt(_tf.square(x) + _tf.cast(b, x.dtype))) / 2.0


def tanh_shrink(x):
    """Gives x - tanh(x)."""
    return x - _tf.tanh(x)


def hard_tanh(x):
    """Cuts x to -1 to 1."""
    return _tf.clip_by_value(x, -1.0, 1.0)


def hard_shrink(x, threshold=0.5):
    """Gives x where |x| is above the threshold, else 0."""
    return _tf.where(_tf.abs(x) > threshold, x, _tf.zeros_like(x))


def soft_shrink(x, threshold=0.5):
    """Gives x brought nearer to 0 by the threshold, at most to 0."""
    return _tf.where(x > threshold, x - threshold, _tf.where(x < -threshold, x + threshold, _tf.zeros_like(x)))


def threshold(x, threshold=0.0, default_value=0.0):
    """Gives x where it is above the threshold, else the default value."""
    return _tf.where(x > threshold, x, _tf.cast(default_value, x.dtype))


def celu(x, alpha=1.0):
    """max(x, 0) + min(alpha (exp(x / alpha) - 1), 0)."""
    return _tf.maximum(x, 0.0) + alpha * _tf.math.expm1(_tf.minimum(x, 0.0) / alpha)


def glu(x, axis=-1):
    """Half of x times the sigmoid of the other half."""
    first, second = _tf.split(x, 2, axis=axis)
    return first * _tf.sigmoid(second)


def sparse_plus(x):
    """0 up to -1, x from 1 on, (x + 1)^2 / 4 in between."""
    return _tf.where(x <= -1.0, _tf.zeros_like(x), _tf.where(x < 1.0, 0.25 * _tf.square(x + 1.0), x))


def sparse_sigmoid(x):
    """(x + 1) / 2, cut to 0 to 1."""
    return _tf.clip_by_value(0.5 * (x + 1.0), 0.0, 1.0)


def sparsemax(x, axis=-1):
    """What Keras 3 (3.15) computes under this name: x less a threshold, at least 0.

    It is not the projection on the simplex of Martins & Astudillo 2016, arXiv:1602.02068: the threshold adds up all cumulative sums of
    the support, not only the last.
    """
    ordered = _tf.sort(x, axis=axis, direction="DESCENDING")
    sums = _tf.cumsum(ordered, axis=axis)
    shape = [1] * len(x.shape)
    shape[axis] = -1
    places = _tf.reshape(_tf.range(1, _tf.shape(x)[axis] + 1), shape)
    support = _tf.cast(ordered - (sums - 1.0) / _tf.cast(places, x.dtype) > 0.0, x.dtype)
    count = _tf.reduce_sum(support, axis=axis, keepdims=True)
    return _tf.maximum(x - (_tf.reduce_sum(support * sums, axis=axis, keepdims=True) - 1.0) / count, 0.0)


_FUNCTIONS = (
    hard_sigmoid,
    hard_silu,
    log_sigmoid,
    log_softmax,
    squareplus,
    tanh_shrink,
    hard_tanh,
    hard_shrink,
    soft_shrink,
    threshold,
    celu,
    glu,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
)
BY_NAME = {it.__name__: it for it in _FUNCTIONS}


@backend.keras().saving.register_keras_serializable("tfopt")
class Keras3Activation:
    """One of the functions above, or of `keras.ops`, as an activation of a tf_keras layer.

    An object of a class, because Keras 2 can't read an .h5 file back whose layers have a function of another module for an activation
    ("Unknown activation function: 'function'", tf_keras 2.21), and because its own hard_sigmoid is found under the plain name.

    Args:
      name: of the function in `keras.activations`, or, with "ops." before it, in `keras.ops`.
    """

    def __init__(self, name: str):
        self.name = name
        self.__name__ = f"keras3_{name.replace('.', '_')}"

    def __call__(self, x):
        return BY_NAME[self.name](x) if self.name in BY_NAME else self.of_keras3()(x)

    def of_keras3(self):
        """Keras 3's own function."""
        place, _, name = self.name.rpartition(".")
        return getattr(keras3().ops if place else keras3().activations, name)

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


backend.keras().saving.get_custom_objects()["Keras3Activation"] = Keras3Activation  # .h5 files know it without "tfopt>" in front
