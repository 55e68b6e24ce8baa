"""tf_keras layers for what Keras 2 does not have: a Keras 3 layer or operation, carried as it is."""

from __future__ import annotations

from typing import Any

from .. import backend
from ._arguments import decoded
from ._keras3 import keras3, private

_keras, _tf = backend.keras(), backend.tensorflow()
_OPERATION_MODULES = ("numpy", "nn", "core", "math", "linalg", "image", "einops")
_register = _keras.saving.register_keras_serializable("tfopt")
_custom: dict[str, Any] = {}  # the users' Keras 3 classes that came through here, so that a copy of a bridged model finds them again


def remember(custom_objects: dict[str, Any]) -> None:
    """Makes the users' own Keras 3 classes known, by name, to `Keras3Layer.from_config`."""
    _custom.update(custom_objects)


@_register
class Keras3Layer(_keras.layers.Layer):
    """A built Keras 3 layer inside a tf_keras model: its variables are weights of this layer, its `call` runs on TensorFlow.

    Args:
      layer: the Keras 3 layer, or the dict that `keras.saving.serialize_keras_object` makes of it.
    """

    def __init__(self, layer: Any, **kwargs: Any):
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
        self._inner = (_revived(layer) if isinstance(layer, dict) else layer,)  # in a tuple: tf_keras must not track it as its own
        self.supports_masking = True

    @property
    def layer(self) -> Any:
        """The Keras 3 layer. What its variables hold is of no meaning: the weights are this layer's own."""
        return self._inner[0]

    def build(self, input_shape):
        self._values = [self._weight_for(variable) for variable in self.layer.variables]
        super().build(input_shape)

    def _weight_for(self, variable: Any) -> Any:
        return self.add_weight(
            name=variable.path.partition("/")[2] or variable.name,
            shape=variable.shape,
            dtype=str(variable.dtype),
            trainable=variable.trainable,
            initializer="zeros",
            experimental_autocast=False,
        )

    def call(self, inputs, second=None, third=None, fourth=None, training=None, mask=None, **kwargs):
        # Named one by one: of *args Keras writes the second tensor of a call into a model's config as `training`.
        args = [each for each in (second, third, fourth) if each is not None]
        if self.layer._call_has_training_arg:
            kwargs["training"] = training
        if mask is not None and self.layer._call_has_mask_arg:
            kwargs["mask"] = mask
        pairs = list(zip(self.layer.variables, self._values, strict=True))
        with keras3().StatelessScope(state_mapping=[(variable, _tf.convert_to_tensor(weight)) for variable, weight in pairs]) as scope:
            given = {id(variable): scope.get_current_value(variable) for variable, _ in pairs}
            outputs = self.layer(inputs, *args, **kwargs)
        for variable, weight in pairs:
            value = scope.get_current_value(variable)
            if value is not given[id(variable)]:
                weight.assign(_tf.cast(value, weight.dtype))
        return outputs

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask) if mask is not None and self.layer.supports_masking else None

    def get_config(self):
        return {**super().get_config(), "layer": keras3().saving.serialize_keras_object(self.layer)}

    def current(self) -> Any:
        """A new Keras 3 layer of the same kind that holds this layer's weights."""
        layer = _revived(keras3().saving.serialize_keras_object(self.layer))
        for variable, weight in zip(layer.variables, self._values, strict=True):
            variable.assign(weight.numpy())
        return layer


def _revived(config: dict[str, Any]) -> Any:
    layer = keras3().saving.deserialize_keras_object(config, custom_objects=dict(_custom))
    if not layer.built:
        raise ValueError(f"the Keras 3 layer {layer.name!r} can't be rebuilt from its config: give its class a build_from_config")
    return layer


@_register
class Keras3Operation(_keras.layers.Layer):
    """An operation of `keras.ops` inside a tf_keras model.

    Args:
      operation: `{"class_name": "Einsum", "config": {"subscripts": "ij,jk"}}`.
      arguments: `{"args": ..., "kwargs": ...}`, each as `_arguments.encoded` makes it.
    """

    def __init__(self, operation: dict[str, Any], arguments: dict[str, Any], **kwargs: Any):
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
        self.operation, self.arguments = operation, arguments
        self._inner = (operation_class(operation["class_name"])(**operation["config"]),)
        self.supports_masking = True  # a mask ends here, as in Keras 3; without this Keras 2 would raise

    def call(self, inputs):
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        args, kwargs = decoded(self.arguments["args"], tensors), decoded(self.arguments["kwargs"], tensors)
        return _INSTEAD.get(self.operation["class_name"], type(self._inner[0]).call)(self._inner[0], *args, **kwargs)

    def compute_mask(self, inputs, mask=None):
        return None

    def fresh(self) -> Any:
        """A new Keras 3 operation of the same kind and settings."""
        operation = operation_class(self.operation["class_name"])(**self.operation["config"])
        operation.name = self.name
        return operation

    def get_config(self):
        return {**super().get_config(), "operation": self.operation, "arguments": self.arguments}


def _extreme(function: Any) -> Any:
    """TensorFlow's own argmax or argmin: Keras 3's looks at the bits of zeros first, by an operation that TFLite does not have."""

    def call(operation: Any, x: Any) -> Any:
        if operation.axis is None:
            return operation.call(x)
        found = function(x, axis=operation.axis, output_type=_tf.int32)
        return _tf.expand_dims(found, operation.axis) if operation.keepdims else found

    return call


_INSTEAD = {"Argmax": _extreme(_tf.argmax), "Argmin": _extreme(_tf.argmin)}


def operation_class(name: str) -> type:
    """The class of an operation of `keras.ops` by its name, e.g. "Einsum".

    Raises:
      ValueError: there is no such operation.
    """
    for path in _OPERATION_MODULES:
        found = getattr(private(f"ops.{path}"), name, None)
        if isinstance(found, type) and issubclass(found, keras3().Operation) and not issubclass(found, keras3().layers.Layer):
            return found
    raise ValueError(f"{name!r} is no operation of keras.ops")
