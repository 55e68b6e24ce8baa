"""The nouns of tfopt: frozen dataclasses that hold what the verbs pass on to each other. Standard library only.

A *model* is a plain `tf_keras.Model` with no class of ours around it.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import numbers
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from .errors import ArtifactError, OptionError
from .files import write_atomically

if TYPE_CHECKING:
    from .describing import Description


@dataclass(frozen=True)
class Data:
    """Real examples, split and ready for a model.

    Each of `train`, `validation`, `test` and `calibration` is a `tf.data.Dataset` of *single* examples `(x, y)` of known
    cardinality: x as the model takes it, without a batch dimension, for a model of several inputs a dict of them by the model's
    input names. y follows from the task: an int32 class index; (length,) int32 class indices in their order, filled up with -1, for a
    sequence; (classes,) float32 of 0 and 1 for several labels at once; a float32 value or (k,) of them; for segmentation (height, width)
    integers, the class of each pixel, -1 where it does not count; or for detection a dict of "boxes", (m, 4) float32 as ymin, xmin, ymax,
    xmax in shares of the image, and "labels", (m,) int32 class indices, both filled up to m with -1. Batching, shuffling and augmenting are
    the pipeline's.

    Attributes:
      name: what the set is called in reports.
      task: what is to be learnt from it: "classification" (one class of several), "multi_label" (each class is there or not), "regression"
        (a number), "autoencoding" (x itself), "anomaly_detection", "segmentation" (masks), "detection" (boxes), "transcription",
        "sequence_to_sequence" or "generation" (sequences of classes). See `tfopt.tasks`.
      train, validation, test: disjoint; the test set is read once, for the number that is reported.
      calibration: a few hundred training examples, for quantization ranges. Never from test.
      input_shape: of one example, e.g. `(28, 28, 1)`; for several inputs a dict of shapes, e.g. `{"image": (28, 28, 1), "row": (5,)}`.
      classes: the classes' names, in the order of their indices; none for regression.
      fingerprint: a hash of the content and of how it was split; another one means other data.
      input_dtype: of x, as a name: "float32", or "int32" for indices; for several inputs a dict of names.
      loss: a Keras loss by name, or a function (targets, outputs) -> (n,); None for the task's own.
      metric: the metric that scores and limits speak of, by name; None for the task's first.
      task_options: what the task was told beside these.
      steps: the preprocessing between the raw examples and x, in order, statistics included; augmentations, which change training
        examples only, among them (see `tfopt.preprocessing`).
      raw_shape, raw_dtype: of an example before the first step; None where they are those of x.
      source: how a raw example comes out of what an app has: for an image its size and how it is resized, for a sound its sample rate, for
        a text its vocabulary. What a JSON file can hold.
      notes: what happened to the data on its way here and its user should know, such as files that were left out; a sentence each.
      augmentation: one of the user's own, `(x, y, seed) -> (x, y)` on a training batch behind all steps, with an int32 seed of shape (2,)
        for `tf.random.stateless_*`; or None.
    """

    name: str
    task: str
    train: Any
    validation: Any
    test: Any
    calibration: Any
    input_shape: tuple[int, ...] | dict[str, tuple[int, ...]]
    classes: tuple[str, ...]
    fingerprint: str
    input_dtype: str | dict[str, str] = "float32"
    loss: str | Callable[[Any, Any], Any] | None = None
    metric: str | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Call, ...] = ()
    raw_shape: tuple[int, ...] | dict[str, tuple[int, ...]] | None = None
    raw_dtype: str | dict[str, str] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    augmentation: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def describe(self) -> Description:
        """What it holds: counts, ranges, missing values, leaks, imbalance, a picture. See `tfopt.describe`."""
        return importlib.import_module("tfopt.describing").describe(self)  # the noun's one verb; loaded only when it is called


@dataclass(frozen=True)
class Fit:
    """How to train. In a technique `fit=None` means no training: its data-free variant.

    Attributes:
      epochs: how often every training example is seen, at most.
      batch_size: examples a step, over all replicas together.
      learning_rate: at the schedule's start, behind the warm-up; of "one_cycle" the highest.
      schedule: "constant"; "step", times `decay` each `decay_epochs`; "exponential", the same without steps; "cosine", half a cosine down
        to zero over all epochs (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts); "one_cycle", up from learning_rate/25 over
        the first 30 % of the steps and half a cosine down to learning_rate/1e4 (Smith 2018, arXiv:1803.09820); or "plateau", times `decay`
        when the validation loss has not fallen for `decay_epochs` epochs.
      warmup_epochs: so long the rate first climbs from 0 to learning_rate, in even steps (Goyal 2017, arXiv:1706.02677); the schedule
        begins behind it and, where it has an end, ends with the fit. Parts of an epoch count.
      decay: what the rate is multiplied by; for "step", "exponential" and "plateau".
      decay_epochs: after how many epochs; None for a third of all epochs with "step" and "exponential", for 3 with "plateau".
      optimizer: "adam", "adamw", "sgd" (with Nesterov momentum), "rmsprop", "nadam", "adagrad" or "lion", with Keras's settings.
      momentum: of "sgd".
      weight_decay: the share, times the learning rate, that each step takes off the kernels (decoupled from the gradient; Loshchilov &
        Hutter 2019, arXiv:1711.05101); None for 0.004 with "adamw", as in Keras, else for none.
      l1, l2: of a penalty l1 sum |w| + l2 sum w^2 on the kernels. Its derivative is added to their gradients before these are clipped, so
        that no layer's config changes and the loss that is shown stays the data's alone.
      max_norm: after each step the incoming weights of each unit, or an embedding's vector, have at most this Euclidean norm.
      clip_norm, clip_value: the largest norm of all gradients together, or the largest size of a number in them.
      ema: the momentum of a moving average of the weights, such as 0.999; None for none. Validation, `patience` and the trained model have
        the average, BatchNorm's statistics included; the steps go on from the weights themselves. In the first step the momentum
        is 0, in step t at most (t - 1) / (t + 8), so that the first weights are soon forgotten.
      accumulate: each batch goes through the model in so many parts, one after the other, and the mean of their gradients makes one step:
        the memory of a part, the step of the batch. BatchNorm sees a part at a time, and Dropout draws anew for each.
      patience: stop after so many epochs without a smaller validation loss, and go back to the best epoch's weights; None trains
        all epochs and keeps the last weights.
      label_smoothing: of classes: a share of the target that goes to all classes alike, such as 0.1 (Szegedy 2016, arXiv:1512.00567).
      class_weights: how much an example counts by its class: a dict from class names (1 where a class is left out), or "balanced", which
        gives every class the same weight in all, as scikit-learn does.
      precision: in which numbers the layers compute while a model is trained: "float32", "mixed_bfloat16" or "mixed_float16" (variables
        stay float32, and so is the model that comes out); "auto" tries half precision where the machine has instructions for it.
        Techniques fine-tune in float32.
      xla: whether XLA compiles the steps; "auto" tries it.
      steps_per_execution: how many steps one call of TensorFlow makes; "auto" tries 10. Techniques make one at a time.
      tensorboard: a folder for TensorBoard: a folder NAME in it for each fit, in which each epoch's losses, metrics and learning rate are.
      service: the dispatcher of a tf.data service, like "grpc://10.0.0.5:5050", whose workers read and augment in place of this machine;
        they need the same files under the same paths. The same batches come in any order, so two runs are not equal to the last bit.
      deterministic: whether operations that add up in whatever order their threads come (the gradient of `tf.image.crop_and_resize`,
        `scatter_add` to a variable) take the time to do it in one order. Without them a fit on the CPU gives the same bits anyway, as
        long as the number of threads is the same.
      seed: all that is random in training follows from (seed, epoch, step).

    Kernels are the weights that multiply inputs, embeddings among them; no biases, and nothing of BatchNorm.

    Raises:
      OptionError: a value out of range, or values that contradict each other.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: Literal["constant", "step", "exponential", "cosine", "one_cycle", "plateau"] = "cosine"
    warmup_epochs: float = 0.0
    decay: float = 0.1
    decay_epochs: int | None = None
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "nadam", "adagrad", "lion"] = "adam"
    momentum: float = 0.9
    weight_decay: float | None = None
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None
    clip_norm: float | None = None
    clip_value: float | None = None
    ema: float | None = None
    accumulate: int = 1
    patience: int | None = None
    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    xla: Literal["auto"] | bool = "auto"
    steps_per_execution: Literal["auto"] | int = "auto"
    tensorboard: str | None = None
    service: str | None = None
    deterministic: bool = False
    seed: int = 0

    def __post_init__(self):
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        problems = [f"{name} = {value!r}: {problem}" for name, value in values.items() if (problem := problem_in_fit(name, value))]
        if problems := problems or _contradictions(self):
            raise OptionError("; ".join(problems))


def problem_in_fit(name: str, value: Any) -> str | None:
    """What is wrong with a value for a field of `Fit`, whatever the others are, as the end of a sentence; None where nothing is."""
    bound, good = _BOUNDS[name]
    return None if good(value) else f"should be {bound}"


def _contradictions(fit: Fit) -> list[str]:
    """Fields that make no sense beside each other, a sentence each. What is only without effect would mislead as well."""
    found, falls = [], fit.schedule in ("step", "exponential", "plateau")
    if fit.warmup_epochs and fit.schedule == "one_cycle":
        found.append(f"warmup_epochs = {fit.warmup_epochs!r}: should be 0 where schedule = 'one_cycle', which warms up by itself")
    if fit.warmup_epochs >= fit.epochs:
        found.append(f"warmup_epochs = {fit.warmup_epochs!r}: should be below epochs = {fit.epochs}")
    for name, usual in (("decay", 0.1), ("decay_epochs", None)):
        if getattr(fit, name) != usual and not falls:
            told = f"'step', 'exponential' and 'plateau' have it, and schedule = {fit.schedule!r}"
            found.append(f"{name} = {getattr(fit, name)!r}: {told}; leave it out, or choose one of them")
    if fit.schedule == "plateau" and fit.patience is not None and fit.patience <= (fit.decay_epochs or PLATEAU):
        found.append(
            f"patience = {fit.patience}: should be above decay_epochs = {fit.decay_epochs or PLATEAU} where schedule = 'plateau', "
            "or the fit stops before its rate falls"
        )
    if fit.momentum != 0.9 and fit.optimizer != "sgd":
        found.append(f"momentum = {fit.momentum!r}: 'sgd' has it, and optimizer = {fit.optimizer!r}; leave it out, or choose 'sgd'")
    if fit.clip_norm is not None and fit.clip_value is not None:
        found.append(f"clip_value = {fit.clip_value!r}: should be left out beside clip_norm; Keras clips in one way only")
    if fit.accumulate > 1 and fit.xla is True:
        found.append(f"accumulate = {fit.accumulate}: should be 1 where xla = True; XLA compiles no step of parts")
    if fit.accumulate > fit.batch_size:
        found.append(f"accumulate = {fit.accumulate}: should be at most batch_size = {fit.batch_size}, the examples that are parted")
    return found


def _weights(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(name, str) and _number(one) and 0 < one < math.inf for name, one in value.items())
    return value in (None, "balanced")


def _address(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"grpc://[^/\s]+:\d+", value) is not None


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _within(low: float, high: float = math.inf, *, low_too: bool = False) -> Callable[[Any], bool]:
    """Whether a value is a number above `low`, or from it on, and below `high`."""
    return lambda value: _number(value) and (low < value < high or (low_too and value == low))


def _from(low: int, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: _whole(value) and low <= value <= high


def _or_none(good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or good(value)


def _one_of(field_name: str) -> tuple[str, Callable[[Any], bool]]:
    names = get_args(get_type_hints(Fit)[field_name])
    return ", ".join(map(repr, names[:-1])) + f" or {names[-1]!r}", lambda value: isinstance(value, str) and value in names


PLATEAU = 3  # epochs without a smaller validation loss before "plateau" lowers the rate, where a fit does not say how many

_COUNT = "a whole number, at least 1", _from(1)
_SIZE = "a number above 0 and finite, or None", _or_none(_within(0))
_FROM_ZERO = "a number from 0, and finite", _within(0, low_too=True)

# field of Fit -> what it should be in words, and whether a value is that
_BOUNDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "epochs": _COUNT,
    "batch_size": _COUNT,
    "learning_rate": ("a number above 0 and finite", _within(0)),
    "schedule": _one_of("schedule"),
    "warmup_epochs": _FROM_ZERO,
    "decay": ("a number above 0 and below 1", _within(0, 1)),
    "decay_epochs": ("a whole number from 1, or None", _or_none(_from(1))),
    "optimizer": _one_of("optimizer"),
    "momentum": ("a number from 0 and below 1", _within(0, 1, low_too=True)),
    "weight_decay": ("a number from 0, and finite, or None", _or_none(_within(0, low_too=True))),
    "l1": _FROM_ZERO,
    "l2": _FROM_ZERO,
    "max_norm": _SIZE,
    "clip_norm": _SIZE,
    "clip_value": _SIZE,
    "ema": ("a number above 0 and below 1, or None", _or_none(_within(0, 1))),
    "accumulate": _COUNT,
    "patience": ("a whole number from 1, or None", _or_none(_from(1))),
    "label_smoothing": ("a number from 0 and below 1", _within(0, 1, low_too=True)),
    "class_weights": ("'balanced' or weights above 0 by class name, or None", _weights),
    "precision": _one_of("precision"),
    "xla": ("true, false or 'auto'", lambda value: isinstance(value, bool) or value == "auto"),
    "steps_per_execution": ("a whole number from 1, or 'auto'", lambda value: value == "auto" or _from(1)(value)),
    "tensorboard": ("the path of a folder, or None", _or_none(lambda value: isinstance(value, str) and value != "")),
    "service": ("like 'grpc://host:port', or None", _or_none(_address)),
    "deterministic": ("true or false", lambda value: isinstance(value, bool)),
    "seed": ("a whole number from 0 to 2**31 - 1", _from(0, 2**31 - 1)),
}


@dataclass(frozen=True)
class Choice:
    """What a technique does with one layer: `treated` or not, and the `reason`. A plan is a tuple of these."""

    layer: str
    treated: bool
    reason: str


@dataclass(frozen=True)
class Call:
    """A name from one of the tables (DATASETS, MODELS, FORMATS, ...) and the keyword arguments to call it with."""

    use: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step(Call):
    """One technique of a recipe: `use` is a key of TECHNIQUES; `options` may hold a `Fit` under "fit"."""


@dataclass(frozen=True)
class ModelFile:
    """A recipe's model that comes from a file: its `path`, and whether Python code in it may run (`trust`)."""

    path: str
    trust: bool = False


@dataclass(frozen=True)
class Recipe:
    """A whole run as data: what `tfopt run` reads from a TOML file.

    Attributes:
      name: names the run's folder; letters, digits, dot, dash and underscore.
      data, model, strategy: calls into the tables of the same names; the model may be a file instead.
      fit: how the model is first trained; None where one from a file is taken as it is.
      unfreeze: the second phase of transfer learning: the `layers` that are thawed then, as of `tfopt.unfreeze`, and a `fit`; or None.
      steps: the techniques, in order.
      task: what is learnt from the data, and which score counts, a call into TASKS; None for the data's own.
      embeddings: the layer whose embeddings the report shows, by name; True for what the last layer with weights is given.
      formats: what to export, each from the plain and from the optimized model.
      limits: format label -> limit -> value, on the optimized model's row.
      seed: of everything random.
      note: a sentence for the reader.
      quick: shrunk to seconds (few examples, one epoch); its numbers say nothing and its limits are not checked.
    """

    name: str
    data: Call
    model: Call | ModelFile
    fit: Fit | None
    steps: tuple[Step, ...] = ()
    formats: tuple[Call, ...] = (Call("float32"), Call("int8"))
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    strategy: Call = Call("auto")
    seed: int = 0
    note: str = ""
    quick: bool = False
    task: Call | None = None
    embeddings: str | bool = False
    unfreeze: Step | None = None


@dataclass(frozen=True)
class Artifact:
    """A converted model.

    Attributes:
      name: a file name without its ending, e.g. "optimized-int8".
      format: the format's label, e.g. "int8".
      content: the .tflite file's bytes.
      steps: what made the model, e.g. `("train", "prune", "quantize_aware")`.
    """

    name: str
    format: str
    content: bytes = field(repr=False)
    steps: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the content, in hexadecimal digits."""
        return hashlib.sha256(self.content).hexdigest()

    def save(self, path: str | os.PathLike) -> Path:
        """Writes the content to `path` (a folder gets `name`.tflite), whole or not at all, and returns the file's path.

        Raises:
          ArtifactError: another file stands there, or it can't be written. The same bytes are no obstacle.
        """
        path = Path(path)
        if path.is_dir():
            path = path / f"{self.name}.tflite"
        try:
            if path.exists():
                if path.read_bytes() == self.content:
                    return path
                raise ArtifactError(f"{path}: another file stands here already; choose another name or remove it first")
            write_atomically(path, self.content)
        except OSError as error:
            raise ArtifactError(f"{path}: can't be written ({error.strerror or error}); free space or choose another place") from error
        return path


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a SavedModel: its name, its shape with the batch dimension (None where it is free), its dtype as a name."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel's folder that `load` looked through: a graph to convert, verify and benchmark, whose layers can't be had back.

    Attributes:
      path: the folder.
      signature: the name of the function that is the model, e.g. "serving_default".
      inputs, outputs: a TensorSpec each, ordered by name.
      reason: why it is no Keras model, as half a sentence.
    """

    path: Path
    signature: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reason: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name
