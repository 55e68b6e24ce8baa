"""LSTM layers as loops over their cells, for quantization-aware models.

TFLite has one operation for an LSTM. In a quantization-aware model the converter refuses it where there is one alone ("Failed to duplicate
values for the stateful op", TensorFlow 2.21); a loop, as which GRU and SimpleRNN come out anyway, it takes.
"""

from __future__ import annotations

from typing import Any

from .. import backend
from .rewriting import Change, Changes, changed, kind, twin

# What an RNN and its cell have of an LSTM's settings.
_OF_THE_LOOP = ("name", "trainable", "dtype", "return_sequences", "return_state", "go_backwards", "stateful", "unroll", "time_major")
_OF_THE_CELL = (
    "units", "activation", "recurrent_activation", "use_bias", "unit_forget_bias", "dropout", "recurrent_dropout", "kernel_initializer",
    "recurrent_initializer", "bias_initializer", "kernel_regularizer", "recurrent_regularizer", "bias_regularizer", "kernel_constraint",
    "recurrent_constraint", "bias_constraint",
)  # fmt: skip


def lstms_as_loops(model: Any) -> tuple[Any, Changes]:
    """The same model with each LSTM, also inside a Bidirectional, as an RNN of an LSTMCell, which computes the same.

    >>> loops, changes = lstms_as_loops(model)
    >>> changes["lstm"].reason
    'becomes a loop over its cell'
    """
    found = {layer.name: made for layer in model.layers if (made := _loop(layer)) is not None}
    changes = {name: Change("becomes a loop over its cell", (name,)) for name in found}
    return changed(model, changes, lambda layer: found.get(layer.name) or twin(layer))


def _loop(layer: Any) -> Any | None:
    if kind(layer) == "LSTM":
        return _of_cell(layer)
    if kind(layer) != "Bidirectional" or "LSTM" not in (kind(layer.forward_layer), kind(layer.backward_layer)):
        return None
    config = layer.get_config()  # Keras makes the backward layer of the forward one where none was given
    layers = {key: backend.keras().layers.deserialize(config[key]) for key in ("layer", "backward_layer") if key in config}
    inside = {key: _of_cell(each) if kind(each) == "LSTM" else each for key, each in layers.items()}
    return backend.keras().layers.Bidirectional(merge_mode=layer.merge_mode, name=layer.name, **inside)


def _of_cell(layer: Any) -> Any:
    keras, config = backend.keras(), layer.get_config()
    cell = keras.layers.LSTMCell.from_config({key: config[key] for key in _OF_THE_CELL})
    return keras.layers.RNN(cell, **{key: config[key] for key in _OF_THE_LOOP})
