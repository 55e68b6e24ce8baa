"""The way into TF-MOT's quantization wrappers: around the treated layers, and between them and the others; ranges from data."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from .. import backend, pipelines
from ..surgery import rewriting
from ..tracing import record
from ..types import Data
from . import _quantizable


def quantized_between(model: Any, treated: set[str]) -> Any:
    """The model with a quantization of its own on each value that goes from an untreated layer into a treated one.

    Without it the converter leaves the treated layer in float, too (a convolution behind a Rescaling), and TF-MOT asks the untreated
    layer for a quantization that it can't give (a convolution with elu).
    """
    quantizers, layers = backend.tfmot().quantization.keras.quantizers, backend.tfmot_private("quantization.keras.quantize_layer")
    into = {
        before.name
        for before, readers in rewriting.readings(model)
        if before.name not in treated and any(reader is not None and reader.name in treated for reader in readers)
    }

    def after(layer, results):
        return backend.tensorflow().nest.map_structure(lambda tensor: rounded(layer, tensor), results) if layer.name in into else results

    def rounded(layer, tensor):
        if not tensor.dtype.is_floating:
            return tensor
        quantizer = quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
        return layers.QuantizeLayer(quantizer, name=f"quantize_{next(names)}_{layer.name.replace('.', '_')}")(tensor)

    names = itertools.count()
    return rewriting.rebuilt(model, rewriting.twin, after) if into else model


def wrapped(model: Any, treated: set[str], weight_bits: int = 8, per_axis: bool = True) -> Any:
    """The model with TF-MOT's wrappers around the treated layers, their ranges not yet calibrated."""
    from . import _tf_quantization

    quantization, keras = backend.tfmot().quantization.keras, backend.keras()

    def annotate(layer):
        if layer.name not in treated:
            return layer
        return quantization.quantize_annotate_layer(layer, _tf_quantization.adjusted(_quantizable.own_config(layer), weight_bits, per_axis))

    with backend.trusted_lambdas(), quantization.quantize_scope(), rewriting.own_functions(model.layers):
        annotated = keras.models.clone_model(model, clone_function=annotate)
        return backend.without_autograph(quantization.quantize_apply, model)(annotated, _tf_quantization.Scheme(weight_bits, per_axis))


def calibrate(quantized: Any, data: Data) -> None:
    """Sets every range: a weight's from the weight, an activation's from the smallest and largest value over the calibration examples."""
    from . import _tf_quantization

    for layer in quantized.layers:
        for weight, quantizer, ranges in getattr(layer, "_weight_vars", ()):
            quantizer(weight, True, weights=ranges)
    observer = _tf_quantization.Observer()
    with _replaced(_activation_quantizers(quantized), observer), pipelines.failures_named(data.calibration):
        fixed = quantized.inputs[0].shape[0]
        for x, _ in pipelines.batches(data.calibration, fixed or 64):
            if fixed in (None, backend.tensorflow().nest.flatten(x)[0].shape[0]):  # the last batch may be a smaller one
                quantized(x, training=False)
    found = {}
    for ranges, low, high in observer.seen.values():
        low, high = min(low, 0.0), max(high, 0.0)  # zero must be a value that int8 can hold exactly: padding is zero
        ranges["min_var"].assign(low)
        ranges["max_var"].assign(high)
        found[ranges["min_var"].name.removesuffix("_min:0")] = [low, high]
    record("ranges", technique="quantize_aware", ranges=found)


def _activation_quantizers(quantized: Any) -> Iterator[tuple[Any, str]]:
    """The attributes, as (object, name), that hold a quantizer of activations or, wrappers' outputs, a list of one."""
    for layer in quantized.layers:
        if getattr(layer, "quantizer", None) is not None:
            yield layer, "quantizer"
        for activation in getattr(layer, "_quantize_activations", ()):
            yield activation, "quantizer"
        if getattr(layer, "_output_quantizers", None):
            yield layer, "_output_quantizers"


@contextlib.contextmanager
def _replaced(holders: Iterable[tuple[Any, str]], observer: Any) -> Iterator[None]:
    before = [(holder, name, getattr(holder, name)) for holder, name in holders]
    try:
        for holder, name, value in before:
            setattr(holder, name, [observer] if isinstance(value, list) else observer)
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)
