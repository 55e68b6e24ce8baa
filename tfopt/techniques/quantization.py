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
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator

from .. import bridge, options, pipelines, tasks, training
from ..errors import DataError, UnsupportedModel
from ..surgery import Fate, copying, kernels, normalized, precision, rewriting
from ..surgery.selecting import Where, selector
from ..teaching import Teacher, teaching_by
from ..tracing import record_plan
from ..types import Choice, Data, Fit
from . import _quantizable, _quantizing, _sharing
from ._keeping import Kept, Preserve

# The share of a fit's steps after which BatchNorm's statistics are frozen.
_FREEZING = 0.75


def _weight_bits(bits: int) -> int:
    if bits not in (4, 8):
        raise ValueError("should be 8 or 4: the converter stores 2 bits as 4, and knows no others")
    return bits


def _activation_bits(bits: int) -> int:
    if bits != 8:
        raise ValueError("should be 8: of 4 bits the converter refuses convolutions, of 16 the runtime refuses the file")
    return bits


WeightBits = Annotated[int, AfterValidator(_weight_bits), "8 or 4"]
ActivationBits = Annotated[int, AfterValidator(_activation_bits), "8"]


def plan(
    model: Any,
    *,
    weight_bits: WeightBits = 8,
    per_axis: bool = True,
    preserve: Preserve = "auto",
    where: Where = None,
    fit: Fit | None = None,
    **_: Any,
) -> tuple[Choice, ...]:
    """Which layers `quantize_aware` will treat, what becomes of them, and why the others stay float."""
    model = precision.in_float32(bridge.plain(model))
    return _plan(model, *_normalized(model, fit, per_axis, preserve), where, weight_bits, preserve)[0]


@options.checked
def quantize_aware(
    model: Any,
    data: Data | None = None,
    *,
    weight_bits: WeightBits = 8,
    activation_bits: ActivationBits = 8,
    per_axis: bool = True,
    preserve: Preserve = "auto",
    where: Where = None,
    teacher: Teacher = None,
    fit: Fit | None = None,
) -> Any:
    """A quantization-aware copy of the model, calibrated and, with a fit, trained; for the "int8" format. Comes last.

    Args:
      model: a plain tf_keras model, or a Keras 3 model.
      data: its calibration examples set the activation ranges.
      weight_bits: of kernels, 8 or 4; those of 4 bits are INT4 in the .tflite.
      activation_bits: 8; neither the converter nor the runtime takes others.
      per_axis: whether each output channel of a convolution has a scale of its own; False: one a kernel.
      preserve: what of the kernels to keep: "auto", the zeros that `prune` and the shared values that `cluster` left, where there are any;
        "zeros" or "clusters", only these; "nothing".
      where: which layers: a name pattern, a class name, a list of them, or a predicate on the layer; None for all.
      teacher: who gives soft targets beside the labels while it trains: "self", the model as it comes in; a path, a model, or several of
        them; in a recipe also "trained". See `distill`.
      fit: how to train; None only calibrates.

    Returns:
      A tf_keras model with TF-MOT's quantization wrappers. Nested models are laid open in it.

    Raises:
      DataError: no data to calibrate on.
      UnsupportedModel: a model with nothing that can be quantized, or whose layers can't be seen.
      OptionError: a value out of range, or a `where` that fits no layer.

    >>> final = quantize_aware(model, data, fit=Fit(epochs=2, learning_rate=1e-4))
    >>> int8 = convert(final, "int8")
    """
    if data is None:
        raise DataError("quantize_aware needs data: activation ranges are measured on its calibration examples")
    model = precision.in_float32(copying.copy_of(model))
    tasks.check_fits(model, data)
    ready, fates = _normalized(model, fit, per_axis, preserve)
    choices, treated = _plan(model, ready, fates, where, weight_bits, preserve)
    record_plan("quantize_aware", choices)
    if not treated:
        raise UnsupportedModel.of("quantize_aware", model, choices)
    teaching = teaching_by(teacher, model, fit)
    quantized = _quantizing.wrapped(_quantizing.quantized_between(ready, treated), treated, weight_bits, per_axis)
    callbacks = _preserving(quantized, preserve, weight_bits)
    _quantizing.calibrate(quantized, data)
    if fit is not None:
        callbacks.append(_freezing(quantized, data, fit))
        with _frozen_kept(quantized):
            training.fit_in_place(quantized, data, fit, name="quantize_aware", callbacks=callbacks, teaching=teaching)
    return quantized


def _normalized(model: Any, fit: Fit | None, per_axis: bool, preserve: str) -> tuple[Any, dict[str, Fate]]:
    def live(before: Any, after: Any) -> bool:  # folded into a kernel with one scale, a BatchNorm makes it one that has many
        return per_axis and _quantizable.is_live(before, after)

    def shared(layer: Any) -> bool:
        return preserve in ("auto", "clusters") and _sharing.in_layer(layer)

    return normalized(model, live=live, inline=_quantizable.may_stay_inside, shared=shared, deploy=fit is None)


def _plan(model: Any, ready: Any, fates: dict[str, Fate], where: Where, bits: int, preserve: str) -> tuple[tuple[Choice, ...], set[str]]:
    """A choice for each layer of the model, and the names of the layers of `ready`, its normalized form, that are treated."""
    layers = copying.all_layers(model)
    chosen = selector(where, [*layers, *copying.all_layers(ready)])
    originals = {name: (path, layer) for path, layer in layers for name in fates[path].layers if not fates[path].merged}
    found = {layer.name: _choice(layer, *originals[layer.name], chosen, bits, preserve) for _, layer in copying.all_layers(ready)}
    for before, after in rewriting.pairs(ready):  # a BatchNorm goes with its convolution, whatever `where` says of it
        if _quantizable.is_live(before, after):
            convolution = found[before.name].treated
            reason = f"folded into {before.name}" if convolution else f"{before.name} before it stays float, so this too"
            found[after.name] = Choice(after.name, convolution, reason)
    choices = tuple(_of_fate(path, layer, fates[path], found) for path, layer in layers)
    return choices, {name for name, choice in found.items() if choice.treated}


def _choice(layer: Any, path: str, original: Any, chosen: Any, bits: int, preserve: str) -> Choice:
    if not chosen(path, original):
        return Choice(layer.name, False, "not named by `where`")
    problem = _quantizable.problem_with(layer)
    if problem:
        return Choice(layer.name, False, f"{problem}; left as it is")
    found = kernels.kernels_of(layer)
    only_8 = bits == 4 and rewriting.kind(layer) in _quantizable.EIGHT_BITS
    told = "8 bits" if bits == 8 or not found or only_8 else f"weights of {bits} bits, activations of 8"
    told += f", since the converter refuses 4 in {_quantizable.EIGHT_BITS[rewriting.kind(layer)]}" if only_8 else ""
    return Choice(layer.name, True, "; ".join([told, *(kept for kernel in found if (kept := _kept(kernel, preserve)))]))


def _kept(kernel: kernels.Kernel, preserve: str) -> str:
    """What of a kernel is kept, in words."""
    zeros = 1 - (kernel.matrix() != 0).mean()
    shared = _sharing.found_in(kernel) if preserve in ("auto", "clusters") else None
    if shared is not None:
        by_channel, values = shared
        return f"keeps its {values.shape[1] + (zeros > 0)} values{' for each output channel' if by_channel else ''}"
    return f"keeps its zeros ({zeros:.0%})" if zeros and preserve in ("auto", "zeros") else ""


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


def _preserving(quantized: Any, preserve: Preserve, bits: int) -> list[Any]:
    """The callbacks that keep zeros and shared values, also in layers that stay float."""
    from . import _tf_quantization

    kept = Kept(kernels.of_all(quantized.layers), preserve)
    for layer in quantized.layers:
        for number, (weight, _, ranges) in enumerate(getattr(layer, "_weight_vars", ())):
            by_channel, _ = kept.shared.get(id(weight), (True, None))
            if not by_channel and ranges["max_var"].shape.rank:
                layer._weight_vars[number] = (weight, _tf_quantization.OneRange(bits), ranges)
    return kept.callbacks()


def _freezing(quantized: Any, data: Data, fit: Fit) -> Any:
    from . import _tf_quantization

    inner = [getattr(layer, "layer", layer) for layer in quantized.layers]
    steps = pipelines.steps_per_epoch(data, fit) * fit.epochs
    norms = [layer for layer in inner if rewriting.kind(layer) in _quantizable.BATCH_NORMS]
    return _tf_quantization.Freezing(norms, max(1, int(steps * _FREEZING)))


@contextlib.contextmanager
def _frozen_kept(quantized: Any) -> Iterator[None]:
    """Frozen layers stay frozen meanwhile: TF-MOT's wrapper lists a kernel as trainable whatever the layer inside it says."""
    frozen = [layer for layer in quantized.layers if hasattr(layer, "_weight_vars") and not layer.layer.trainable]
    before = [(layer, layer._trainable_weights) for layer in frozen]
    for layer in frozen:
        layer._non_trainable_weights, layer._trainable_weights = [*layer._trainable_weights, *layer._non_trainable_weights], []
    try:
        yield
    finally:
        for layer, weights in before:
            layer._non_trainable_weights, layer._trainable_weights = layer._non_trainable_weights[len(weights) :], weights
