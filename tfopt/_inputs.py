"""The inputs of a .tflite that is to be made: their shapes and dtypes, and the examples to calibrate it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import backend, pipelines, preprocessing
from .deployment import Preprocessing
from .errors import DataError
from .types import Data, SavedModel


def layers_of(model: Any) -> Sequence[Any]:
    """Every layer of a Keras model, at any depth; a SavedModel shows none.

    Not its `submodules`: of an LSTM with dropout that has run once, TensorFlow can't list them ("Error processing property").
    """
    return () if isinstance(model, SavedModel) else list(model._flatten_layers())


def calibration(model: Any, data: Data | None) -> dict[str, np.ndarray]:
    """The calibration examples for each input, by its name.

    Raises:
      DataError: there are none, or they don't fit the model.
    """
    what = f"{model.name} to int8"
    if data is None:
        raise DataError(f"{what}: calibration data is needed for the ranges of its activations; give data=")
    _shapes_of_examples(model, what, data)
    x, y = pipelines.to_arrays(data.calibration)
    if not len(y):
        raise DataError(f"{what}: {data.name} has no calibration examples; it needs one or more, a few hundred are good")
    dtypes = dict(zip(_names(model), _dtypes(model, data), strict=True))
    arrays = pipelines.in_order(x, tuple(dtypes), f"{what}: the model", data.name)
    return {name: array.astype(dtype.as_numpy_dtype) for (name, dtype), array in zip(dtypes.items(), arrays, strict=True)}


def specs(model: Any, what: str, data: Data | None) -> list[Any]:
    """A TensorSpec for each input of a Keras model's file; none for a SavedModel, whose signature says them.

    Free sizes stand in the file as 1, and it runs as if they were, so data fixes them.

    Raises:
      DataError: it should, and does not fit the model.
    """
    if isinstance(model, SavedModel):
        return []
    recurrent = any(isinstance(layer, backend.keras().layers.RNN) for layer in layers_of(model))
    shapes = [[tensor.shape[0] or (1 if recurrent else None), *tensor.shape[1:]] for tensor in model.inputs]
    if data is not None and any(None in shape[1:] for shape in shapes):
        shapes = [[batch, *given] for (batch, *_), given in zip(shapes, _shapes_of_examples(model, what, data), strict=True)]
    inputs = zip(shapes, _dtypes(model, data), model.input_names, strict=True)
    return [backend.tensorflow().TensorSpec(shape, dtype, name=name) for shape, dtype, name in inputs]


class Front:
    """The preparations of data as a function of raw examples, to be converted in the place of a model: it has no variables.

    It puts out what the model takes, by the names of the model's inputs.

    Raises:
      DataError: what the data is prepared to does not fit the model.
    """

    variables = ()

    def __init__(self, model: Any, what: str, data: Data, found: Preprocessing):
        _shapes_of_examples(model, what, data)
        self.found, self.names = found, tuple(_names(model))
        self.dtypes = _dtypes(model, data)
        self.batch = model.inputs[0].shape[0] if isinstance(model, SavedModel) else specs(model, what, data)[0].shape[0]

    @property
    def specs(self) -> list[Any]:
        """A TensorSpec for each input, of raw examples."""
        raw = pipelines.nested(
            lambda shape, dtype: backend.tensorflow().TensorSpec([self.batch, *shape], dtype), self.found.raw_shape, self.found.raw_dtype
        )
        named = zip(self.names, pipelines.in_order(raw, self.names, "the model", self.found.data), strict=True)
        return [backend.tensorflow().TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in named]

    def __call__(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Prepared batches by input name."""
        tf = backend.tensorflow()
        several = isinstance(self.found.raw_shape, dict)
        values = inputs if isinstance(inputs, list) else [inputs]
        x, _ = preprocessing.applied(dict(zip(self.names, values, strict=True)) if several else inputs, None, self.found.steps)
        arranged = pipelines.in_order(x, self.names, "the model", self.found.data)
        return {name: tf.cast(one, dtype) for name, one, dtype in zip(self.names, arranged, self.dtypes, strict=True)}


def _names(model: Any) -> Sequence[str]:
    return [spec.name for spec in model.inputs] if isinstance(model, SavedModel) else model.input_names


def _dtypes(model: Any, data: Data | None) -> list[Any]:
    """What the file takes at each input: the model's own dtype, but int32 for a Keras model where the data holds indices.

    Keras's Input is float32 if nobody says otherwise, in front of an Embedding, too, and int8 would round a thousand indices to 256.
    """
    held = None if data is None or isinstance(model, SavedModel) else data.input_dtype
    of = [held.get(name) if isinstance(held, Mapping) else held for name in _names(model)]
    return [
        backend.tensorflow().dtypes.as_dtype("int32" if dtype == "int32" else tensor.dtype)
        for tensor, dtype in zip(model.inputs, of, strict=True)
    ]


def _shapes_of_examples(model: Any, what: str, data: Data) -> list[tuple[int, ...]]:
    """The shapes of the data's examples, in the order of the model's inputs, if they fit it."""
    shapes = pipelines.in_order(data.input_shape, _names(model), f"{what}: the model", data.name)
    for tensor, given in zip(model.inputs, shapes, strict=True):
        expected = tuple(tensor.shape[1:])
        if not pipelines.same_shape(expected, given):
            raise DataError(f"{what}: the model takes examples of shape {expected}, those of {data.name} are {given}")
    return shapes
