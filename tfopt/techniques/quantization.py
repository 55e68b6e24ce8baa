"""Quantization-aware training: the model learns with the rounding that int8 will do to it.

Every weight w and activation x passes through a fake quantization,

    q(x) = s (clip(round(x / s) + z, -128, 127) - z),

whose gradient is taken as that of the identity inside the range (the straight-through estimator). Kernels are symmetric (z = 0; one
scale s a channel for convolutions, one a tensor for Dense), activations have one scale a tensor. After training, the converter finds the
ranges in the model and needs no calibration.

TF-MOT's wrappers do the fake quantization. Around them stands what they need to be right:

- The model is brought into the few kinds of layer that TF-MOT knows and the converter computes in int8 (`surgery.normalized`): ReLU
  layers are fused into the layer before them, whose kernel TF-MOT would leave unquantized; operators become layers, a Conv1D a Conv2D; a
  BatchNorm goes into a Dense, a transposed convolution, or becomes a convolution.
- Multiply, Subtract, PReLU, Rescaling, hard swish and others that TF-MOT does not know get a quantization of their output.
- Activation ranges are measured on the calibration data before the first step: TF-MOT starts at [-6, 6] and moves a thousandth a step.
- Kernels that hold zeros (from `prune`) keep them: their masks go into the fake quantization, so no gradient reaches a zero.
- A mixed-precision model goes on in float32: TF-MOT's wrappers raise a TypeError in any other.
- What TF-MOT can't quantize stays float, with the reason in the plan.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv:1712.05877).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from .. import backend, bridge, options, pipelines, training
from ..errors import DataError, UnsupportedModel
from ..surgery import Fate, activations, copying, normalized, precision, rewriting
from ..surgery.selecting import Where, selector
from ..tracing import record, record_plan
from ..types import Choice, Data, Fit

# After these, and when nothing else reads their output, TF-MOT folds a BatchNorm while training, as the converter will. After a Dense it
# would wrap one as well, but the converter then leaves the FULLY_CONNECTED in float.
_FOLDING = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
_BATCH_NORMS = ("BatchNormalization", "SyncBatchNormalization")
# What TF-MOT takes as `activation=` of a layer with weights, less swish, which the converter leaves in float there.
_INLINE_ACTIVATIONS = ("linear", "relu", "gelu", "softmax", "sigmoid", "tanh")
_LAYER_ACTIVATIONS = (*_INLINE_ACTIVATIONS, "relu6", "swish")
# What TF-MOT does not know, but the converter computes in int8 once the range of its output is known (all measured)...
_WITH_OUTPUT = ("Multiply", "Subtract", "PReLU", "Rescaling", "UnitNormalization", "Dot")
# ... and what hands on the values, and so the range, that it is given.
_HANDING_ON = ("MaxPooling1D", "UpSampling1D", "RepeatVector", "GaussianNoise", "GaussianDropout", "AlphaDropout")


def plan(model: Any, *, where: Where = None, fit: Fit | None = None, **_: Any) -> tuple[Choice, ...]:
    """Which layers `quantize_aware` will treat, what becomes of them, and why the others stay float."""
    model = bridge.plain(model)
    model = precision.in_float32(bridge.plain(model))
    return _plan(model, *_normalized(model, fit), where)[0]


@options.checked
def quantize_aware(model: Any, data: Data | None = None, *, where: Where = None, fit: Fit | None = None) -> Any:
    """A quantization-aware copy of the model, calibrated and, with a fit, trained; for the "int8" format. Comes last.

    Args:
      model: a plain tf_keras model; zeros that `prune` left in it are kept.
      data: its calibration examples set the activation ranges.
      where: which layers: a name pattern, a class name, a list of them, or a predicate on the layer; None for all.
      fit: how to train; None only calibrates.

    Returns:
      A tf_keras model with TF-MOT's quantization wrappers. Nested models are laid open in it.

    Raises:
      DataError: no data to calibrate on.
      UnsupportedModel: a model with nothing that can be quantized, or whose layers can't be seen.
      OptionError: a `where` that fits no layer.

    >>> final = quantize_aware(model, data, fit=Fit(epochs=2, learning_rate=1e-4))
    >>> int8 = convert(final, "int8")
    """
    if data is None:
        raise DataError("quantize_aware needs data: activation ranges are measured on its calibration examples")
    model = precision.in_float32(copying.copy_of(model))
    pipelines.check_fits(model, data)
    ready, fates = _normalized(model, fit)
    choices, treated = _plan(model, ready, fates, where)
    record_plan("quantize_aware", choices)
    if not treated:
        raise UnsupportedModel.of("quantize_aware", model, choices)
    quantized = _wrapped(_quantized_between(ready, treated), treated)
    callbacks = _keep_zeros(quantized)
    _calibrate(quantized, data)
    if fit is not None:
        training.fit_in_place(quantized, data, fit, name="quantize_aware", callbacks=callbacks)
    return quantized


def _normalized(model: Any, fit: Fit | None) -> tuple[Any, dict[str, Fate]]:
    return normalized(model, live=_is_live, inline=_may_stay_inside, deploy=fit is None)


def _is_live(before: Any, after: Any) -> bool:
    """Whether TF-MOT folds this BatchNorm itself, so that it goes on learning."""
    linear = rewriting.activation_name(before) == "linear"
    return rewriting.kind(after) in _BATCH_NORMS and rewriting.kind(before) in _FOLDING and linear and not _is_dilated(before)


def _may_stay_inside(layer: Any) -> bool:
    name = rewriting.activation_name(layer)
    return name in _INLINE_ACTIVATIONS or name in activations.FUSABLE.get(rewriting.kind(layer), ())


def _plan(model: Any, ready: Any, fates: dict[str, Fate], where: Where) -> tuple[tuple[Choice, ...], set[str]]:
    """A choice for each layer of the model, and the names of the layers of `ready`, its normalized form, that are treated."""
    layers = copying.all_layers(model)
    chosen = selector(where, [*layers, *copying.all_layers(ready)])
    originals = {name: (path, layer) for path, layer in layers for name in fates[path].layers if not fates[path].merged}
    found = {layer.name: _choice(layer, *originals[layer.name], chosen) for _, layer in copying.all_layers(ready)}
    for before, after in rewriting.pairs(ready):  # a BatchNorm goes with its convolution, whatever `where` says of it
        if _is_live(before, after):
            convolution = found[before.name].treated
            reason = f"folded into {before.name}" if convolution else f"{before.name} before it stays float, so this too"
            found[after.name] = Choice(after.name, convolution, reason)
    choices = tuple(_of_fate(path, layer, fates[path], found) for path, layer in layers)
    return choices, {name for name, choice in found.items() if choice.treated}


def _choice(layer: Any, path: str, original: Any, chosen) -> Choice:
    if not chosen(path, original):
        return Choice(layer.name, False, "not named by `where`")
    problem = _problem(layer)
    return Choice(layer.name, False, f"{problem}; left as it is") if problem else Choice(layer.name, True, "8 bits")


def _of_fate(path: str, layer: Any, fate: Fate, found: dict[str, Choice]) -> Choice:
    """The choice for a layer of the model, from those for the layers that do its work in the normalized one."""
    reasons = [reason for reason in fate.reasons if reason != "laid open"]
    if not fate.layers:
        return Choice(path, False, "; ".join(reasons))
    main, *others = (found[name] for name in fate.layers)
    if fate.merged:  # preprocessing that is folded away leaves nothing to quantize
        treated = main.treated and rewriting.kind(layer) not in ("Rescaling", "Normalization")
        return Choice(path, treated, "; ".join(reasons) + ("" if main.treated else ", which stays float"))
    left = [f"{choice.layer}: {choice.reason}" for choice in others if not choice.treated and choice.reason != main.reason]
    return Choice(path, main.treated, "; ".join([*reasons, main.reason, *left]))


def _problem(layer: Any) -> str | None:
    """Why a layer can't be quantized; None where it can."""
    kind, activation = type(layer).__name__, rewriting.activation_name(layer)
    if kind in _BATCH_NORMS:
        return f"a {kind} that neither follows a linear layer alone nor is one of the last axis"
    if kind in ("Maximum", "Minimum"):
        return f"TF-MOT can't quantize {kind}, and the converter gives all its inputs the range of one: look at the agreement"
    if not (kind == "SeparableConv2D" or _own_config(layer) is not None or _registry().supports(layer)):
        return f"TF-MOT can't quantize {kind}"
    if kind == "Activation" and not (activation in _LAYER_ACTIVATIONS or _own_config(layer) is not None):
        return f"the converter computes {activation} in float"
    if kind != "Activation" and activation is not None and not _may_stay_inside(layer):
        return f"{kind} with activation {activation!r} does not become int8"
    if kind == "ReLU" and layer.threshold:
        return "the converter computes a ReLU with a threshold in float"
    if kind in ("Dense", "BatchNormalization") and len(layer.input_shape) > 2:
        return f"the converter computes a {kind} on more than one axis in float"
    if _is_dilated(layer):
        return f"the converter computes a dilated {kind} that is quantization-aware in float"
    return None


def _is_dilated(layer: Any) -> bool:
    return any(rate != 1 for rate in getattr(layer, "dilation_rate", ()))


def _quantized_between(model: Any, treated: set[str]) -> Any:
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
        if layer.name not in into or not getattr(getattr(results, "dtype", None), "is_floating", False):
            return results
        quantizer = quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
        return layers.QuantizeLayer(quantizer, name=f"quantize_{next(names)}_{layer.name.replace('.', '_')}")(results)

    names = itertools.count()
    return rewriting.rebuilt(model, rewriting.twin, after) if into else model


def _wrapped(model: Any, treated: set[str]) -> Any:
    """The model with TF-MOT's wrappers around the treated layers, their ranges not yet calibrated."""
    from . import _tf_quantization

    quantization, keras = backend.tfmot().quantization.keras, backend.keras()

    def annotate(layer):
        return quantization.quantize_annotate_layer(layer, _own_config(layer)) if layer.name in treated else layer

    with backend.trusted_lambdas(), quantization.quantize_scope(), rewriting.own_functions(model.layers):
        annotated = keras.models.clone_model(model, clone_function=annotate)
        return backend.without_autograph(quantization.quantize_apply, model)(annotated, _tf_quantization.Scheme())


def _own_config(layer: Any) -> Any | None:
    """A QuantizeConfig where TF-MOT's default refuses the layer."""
    kind, registry = rewriting.kind(layer), backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_registry")
    configs = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_configs")
    if kind in _WITH_OUTPUT or (kind == "Activation" and activations.computes(layer, activations.hard_swish)):
        return configs.Default8BitOutputQuantizeConfig()
    if kind in _HANDING_ON:
        return configs.NoOpQuantizeConfig()
    if kind == "Activation" or rewriting.activation_name(layer) != "relu6":
        return None
    kernel = "depthwise_kernel" if kind == "DepthwiseConv2D" else "kernel"  # ReLU6 fused into it, which the converter can fuse as well
    config = {
        "Dense": registry.Default8BitQuantizeConfig,
        "Conv2DTranspose": registry.Default8BitConvTransposeQuantizeConfig,
    }.get(kind, registry.Default8BitConvQuantizeConfig)
    return config([kernel], [], True)


def _registry() -> Any:
    return backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_registry").Default8BitQuantizeRegistry()


def _keep_zeros(quantized: Any) -> list[Any]:
    """Masks the zeros of every quantized kernel; returns the callback that keeps those of the others, where there are any."""
    from . import _tf_quantization

    inside = {id(weight) for layer in quantized.layers for weight, _, _ in getattr(layer, "_weight_vars", ())}
    others = [w for w in quantized.trainable_weights if w.shape.rank > 1 and id(w) not in inside]
    masks = [(weight, (weight.numpy() != 0).astype("float32")) for weight in others]
    for layer in quantized.layers:
        for number, (weight, quantizer, ranges) in enumerate(getattr(layer, "_weight_vars", ())):
            mask = weight.numpy() != 0
            if not mask.all():
                layer._weight_vars[number] = (weight, _tf_quantization.KeepZeros(quantizer, mask.astype("float32")), ranges)

    masks = [(weight, mask) for weight, mask in masks if not mask.all()]
    return [_tf_quantization.Remask(masks)] if masks else []


def _calibrate(quantized: Any, data: Data) -> None:
    """Sets every range: a weight's from the weight, an activation's from the smallest and largest value over the calibration examples."""
    from . import _tf_quantization

    for layer in quantized.layers:
        for weight, quantizer, ranges in getattr(layer, "_weight_vars", ()):
            quantizer(weight, True, weights=ranges)
    observer = _tf_quantization.Observer()
    with _replaced(_activation_quantizers(quantized), observer):
        for x, _ in pipelines.batches(data.calibration, 64):
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
