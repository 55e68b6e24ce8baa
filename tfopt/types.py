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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import ArtifactError, OptionError
from .files import write_atomically

if TYPE_CHECKING:
    from .describing import Description


@dataclass(frozen=True)
class Data:
    """Real examples, split and ready for a model.

    Each of `train`, `validation`, `test` and `calibration` is a `tf.data.Dataset` of *single* examples `(x, y)` of known
    cardinality: x as the model takes it, without a batch dimension, for a model of several inputs a dict of them by the model's
    input names. y follows from the task: an int32 class index; a float32 value; or for detection a dict of "boxes", (m, 4) float32 as
    ymin, xmin, ymax, xmax in shares of the image, and "labels", (m,) int32 class indices, both filled up to m with -1. Batching,
    shuffling and augmenting are the pipeline's.

    Attributes:
      name: what the set is called in reports.
      task: what is to be learnt from it: "classification" (one class of several), "regression" (a number) or "detection" (boxes).
      train, validation, test: disjoint; the test set is read once, for the number that is reported.
      calibration: a few hundred training examples, for quantization ranges. Never from test.
      input_shape: of one example, e.g. `(28, 28, 1)`; for several inputs a dict of shapes, e.g. `{"image": (28, 28, 1), "row": (5,)}`.
      classes: the classes' names, in the order of their indices; none for regression.
      fingerprint: a hash of the content and of how it was split; another one means other data.
      input_dtype: of x, as a name: "float32", or "int32" for indices; for several inputs a dict of names.
      loss: a Keras loss by name, for a model that ends in probabilities.
      metric: the Keras metric by name that scores and limits speak of.
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
    task: Literal["classification", "regression", "detection"]
    train: Any
    validation: Any
    test: Any
    calibration: Any
    input_shape: tuple[int, ...] | dict[str, tuple[int, ...]]
    classes: tuple[str, ...]
    fingerprint: str
    input_dtype: str | dict[str, str] = "float32"
    loss: str = "sparse_categorical_crossentropy"
    metric: str = "accuracy"
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
      learning_rate: at the schedule's start.
      schedule: "constant", or "cosine" (half a cosine down to zero over all epochs; Loshchilov & Hutter 2017,
        arXiv:1608.03983, without restarts).
      optimizer: "adam", "sgd" (with Nesterov momentum 0.9) or "rmsprop".
      patience: stop after so many epochs without a smaller validation loss, and go back to the best epoch's weights; None trains
        all epochs and keeps the last weights.
      service: the dispatcher of a tf.data service, like "grpc://10.0.0.5:5050", whose workers read and augment in place of this machine;
        they need the same files under the same paths. The same batches come in any order, so two runs are not equal to the last bit.
      seed: all that is random in training follows from (seed, epoch, step).

    Raises:
      OptionError: a value out of range.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    patience: int | None = None
    service: str | None = None
    seed: int = 0

    def __post_init__(self):
        problems = [
            f"{name} = {getattr(self, name)!r}: should be {bound}"
            for name, bound, good in (
                ("epochs", "a whole number, at least 1", _whole(self.epochs) and self.epochs >= 1),
                ("batch_size", "a whole number, at least 1", _whole(self.batch_size) and self.batch_size >= 1),
                ("learning_rate", "a number above 0 and finite", _number(self.learning_rate) and 0 < self.learning_rate < math.inf),
                ("patience", "a whole number from 1, or None", self.patience is None or (_whole(self.patience) and self.patience >= 1)),
                ("seed", "a whole number from 0 to 2**31 - 1", _whole(self.seed) and 0 <= self.seed < 2**31),
                ("service", "like 'grpc://host:port', or None", self.service is None or _address(self.service)),
                ("schedule", "'constant' or 'cosine'", self.schedule in ("constant", "cosine")),
                ("optimizer", "'adam', 'sgd' or 'rmsprop'", self.optimizer in ("adam", "sgd", "rmsprop")),
            )
            if not good
        ]
        if problems:
            raise OptionError("; ".join(problems))


def _address(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"grpc://[^/\s]+:\d+", value) is not None


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


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
      steps: the techniques, in order.
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
