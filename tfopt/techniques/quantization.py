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

from typing import Any

from .. import bridge, options, pipelines, training
from ..errors import DataError, UnsupportedModel
from ..surgery import Fate, copying, normalized, precision, rewriting
from ..surgery.selecting import Where, selector
from ..tracing import record_plan
from ..types import Choice, Data, Fit
from . import _quantizable, _quantizing


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
    quantized = _quantizing.wrapped(_quantizing.quantized_between(ready, treated), treated)
    callbacks = _keep_zeros(quantized)
    _quantizing.calibrate(quantized, data)
    if fit is not None:
        training.fit_in_place(quantized, data, fit, name="quantize_aware", callbacks=callbacks)
    return quantized


def _normalized(model: Any, fit: Fit | None) -> tuple[Any, dict[str, Fate]]:
    return normalized(model, live=_quantizable.is_live, inline=_quantizable.may_stay_inside, deploy=fit is None)


def _plan(model: Any, ready: Any, fates: dict[str, Fate], where: Where) -> tuple[tuple[Choice, ...], set[str]]:
    """A choice for each layer of the model, and the names of the layers of `ready`, its normalized form, that are treated."""
    layers = copying.all_layers(model)
    chosen = selector(where, [*layers, *copying.all_layers(ready)])
    originals = {name: (path, layer) for path, layer in layers for name in fates[path].layers if not fates[path].merged}
    found = {layer.name: _choice(layer, *originals[layer.name], chosen) for _, layer in copying.all_layers(ready)}
    for before, after in rewriting.pairs(ready):  # a BatchNorm goes with its convolution, whatever `where` says of it
        if _quantizable.is_live(before, after):
            convolution = found[before.name].treated
            reason = f"folded into {before.name}" if convolution else f"{before.name} before it stays float, so this too"
            found[after.name] = Choice(after.name, convolution, reason)
    choices = tuple(_of_fate(path, layer, fates[path], found) for path, layer in layers)
    return choices, {name for name, choice in found.items() if choice.treated}


def _choice(layer: Any, path: str, original: Any, chosen) -> Choice:
    if not chosen(path, original):
        return Choice(layer.name, False, "not named by `where`")
    problem = _quantizable.problem_with(layer)
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
