"""Model files <-> models: any Keras's, read without running anything that came in them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import _archives, _savedmodel, backend, bridge
from ._archives import Contents
from ._safety import Check, Library
from .errors import BridgeError, OptionError, UnsupportedModel, shown
from .files import write_atomically
from .tracing import log
from .types import Artifact, SavedModel

ENDINGS = (".keras", ".h5")
_H5_HINT = "; Keras 3 does not read every .h5 that it wrote itself (no operators, no keras.ops): save the model as .keras"
_TFMOT_NAMES = ("Quantize", "PruneLowMagnitude", "ClusterWeights")
_TFMOT_SCHEDULES = ("ConstantSparsity", "PolynomialDecay", "PruningPolicy")  # that its wrapper looks up for itself


def load(model: Any, custom_objects: Mapping[str, Any] | None = None, *, trust: bool = False) -> Any:
    """A plain tf_keras model from whatever a model comes in.

    Keras 3 models, given as such or in a .keras or .h5 file, come through the bridge. Which Keras wrote a file, and what kind of file it
    is, is told by its content. A model that was compiled is compiled again; where that can't be (a loss that was not given), the log
    says why.

    Loading runs no code that came in the file: only classes of Keras, TF-MOT, tfopt and `custom_objects` are instantiated, and no module
    that the file names is imported. Nothing is written beside it.

    Args:
      model: a path: a .keras or .h5 file of Keras 2 or 3, a SavedModel's folder, or a .tflite. Or a Keras 3 or tf_keras model.
      custom_objects: classes and functions of your own that the model holds, by name: Keras 3's for a Keras 3 file, tf_keras's for one of
        Keras 2. With a Keras 3 model in memory, a tf_keras class takes the place of the layers of its name.
      trust: lets Python code in the file run (Lambda layers) and vocabularies be read from other files. Only for files that you would run.

    Returns:
      A tf_keras model. A SavedModel from which no Keras model can be had gives a `SavedModel`, a .tflite an `Artifact`; these can be
      converted (the first only), verified, inspected and benchmarked, but not trained.

    Raises:
      UnsupportedModel: no such file, one that is damaged or no model, one that holds what is not loaded, a class that is missing in
        `custom_objects`, a subclassed Keras 3 model.
      BridgeError: a Keras 3 model that does not come through the bridge unchanged.
      OptionError: custom_objects is no dict of names.

    >>> model = load("mine.keras", custom_objects={"Scale": Scale})
    """
    custom = _checked_custom(custom_objects)
    if isinstance(model, str | os.PathLike):
        return _from_path(Path(model), custom, trust)
    if bridge.is_keras3(model):
        with _quietly():
            return bridge.to_keras2(model, custom)
    if isinstance(model, SavedModel | Artifact | backend.keras().Model):
        return model
    raise UnsupportedModel(f"expected a path, a Keras 3 model or a tf_keras model, got {type(model).__module__}.{type(model).__name__}")


def _from_path(path: Path, custom: dict[str, Any], trust: bool) -> Any:
    kind = _archives.kind_of(path)
    if kind == "tflite":
        return Artifact(path.stem, "tflite", path.read_bytes())
    if kind == "savedmodel":
        return _from_folder(path, custom, trust)
    contents = _archives.keras_file(path) if kind == "keras" else _archives.h5_file(path)
    if contents.keras == 2:
        check = _check2(path, contents.config, custom, trust)
        with backend.trusted_lambdas(trust):
            return _read(path, f"model.{kind}", contents, check, backend.keras())
    given = {name: value for name, value in custom.items() if not _is_tf_keras(value)}
    model3 = _read(path, f"model.{kind}", contents, Check(str(path), _library3(), given, trust=trust), bridge.keras3())
    try:
        with _quietly():
            return bridge.to_keras2(model3, custom)
    except (BridgeError, UnsupportedModel) as error:
        raise type(error)(f"{path}: {error}") from error


def _read(path: Path, name: str, contents: Contents, check: Check, keras: Any) -> Any:
    """Has Keras read a file, whose config was looked through, under a name in a folder of our own: it writes beside what it reads."""
    check(contents.config)
    compiled = contents.compilation is not None and _is_good(path, check, contents.compilation)
    with tempfile.TemporaryDirectory(prefix="tfopt-load-") as folder, _temporary_files_in(folder, contents.assets), _quietly():
        file = Path(folder) / name
        if check.moved and name.endswith(".keras"):
            _archives.rewrite_config(path, file, contents)
        else:
            file.symlink_to(path.resolve())

        def attempt(compiled: bool) -> Any:
            with keras.saving.custom_object_scope(
                check.custom
            ):  # an argument alone does not reach every object: Keras would import its module
                return keras.models.load_model(file, custom_objects=check.custom, compile=compiled, safe_mode=not check.trust)

        try:
            model = _compiled_if_possible(path, attempt) if compiled else attempt(False)
        except Exception as error:  # h5py, json and Keras raise whatever they like on a damaged file
            hint = _H5_HINT if name.endswith(".h5") and keras is not backend.keras() else ""
            raise UnsupportedModel(f"{path}: can't be read by {keras.__name__} {keras.__version__}: {_reason(error)}{hint}") from error
    if not isinstance(model, keras.Model):
        raise UnsupportedModel(f"{path}: holds a {type(model).__name__} and no model; save a model of it")
    return model


def _is_good(path: Path, check: Check, compilation: Any) -> bool:
    try:
        dataclasses.replace(check, custom=check.custom)(compilation)
    except UnsupportedModel as error:
        log.warning("%s: loaded without being compiled (%s)", path, str(error).removeprefix(f"{path}: "))
        return False
    return True


def _compiled_if_possible(path: Path, attempt: Callable[[bool], Any]) -> Any:
    try:
        return attempt(True)
    except Exception as error:  # a loss by a name that nobody knows, an optimizer of other years
        model = attempt(False)
        log.warning("%s: loaded without being compiled (%s)", path, _reason(error))
        return model


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def _from_folder(path: Path, custom: dict[str, Any], trust: bool) -> Any:
    saved, config = _savedmodel.read(path)
    if config is None:
        return saved
    try:
        check = _check2(path, config, custom, trust)
        check(config)
        with backend.trusted_lambdas(trust), _quietly():
            return _savedmodel.revived(path, config, check.custom)
    except Exception as error:  # then the graph is all that there is; it says why
        reason = _reason(error).removeprefix(f"{path}: ")
        return dataclasses.replace(saved, reason=f"the Keras model that it was made from can't be built anew: it {reason}")


# What Keras is given


def _check2(path: Path, config: Any, custom: Mapping[str, Any], trust: bool) -> Check:
    """The check of a Keras 2 model, with TF-MOT's and tfopt's own classes where it speaks of them: both cost seconds to import."""
    text = str(config)
    tfmot, bridged = any(name in text for name in _TFMOT_NAMES), "tfopt>" in text
    given = {**custom, **(bridge.custom_objects() if bridged else {}), **(_tfmot_objects() if tfmot else {})}
    return Check(str(path), _library2(), given, _TFMOT_SCHEDULES if tfmot else (), trust, _library3() if bridged else None)


@functools.cache
def _library2() -> Library:
    return Library(backend.keras())


@functools.cache
def _library3() -> Library:
    return Library(bridge.keras3())


def _checked_custom(custom_objects: Any) -> dict[str, Any]:
    if custom_objects is None:
        return {}
    if not isinstance(custom_objects, Mapping) or not all(isinstance(name, str) and callable(it) for name, it in custom_objects.items()):
        raise OptionError(f"custom_objects = {shown(custom_objects)}: should be a dict from names to classes or functions")
    return dict(custom_objects)


def _is_tf_keras(value: Any) -> bool:
    return isinstance(value, type) and any(kind.__module__.startswith("tf_keras.") for kind in value.__mro__)


def _tfmot_objects() -> dict[str, Any]:
    tfmot, clusters = backend.tfmot(), backend.tfmot_private("clustering.keras.cluster_wrapper")
    scopes = (tfmot.quantization.keras.quantize_scope(), tfmot.sparsity.keras.prune_scope(), tfmot.clustering.keras.cluster_scope())
    objects = {name: it for scope in scopes for group in scope.custom_objects for name, it in group.items()}
    # cluster_scope leaves out two of the three wrappers
    return {**objects, **{name: getattr(clusters, name) for name in ("ClusterWeightsRNN", "ClusterWeightsMHA")}}


# Saving


def save(model: Any, path: str | os.PathLike, *, keras: int = 3) -> Path:
    """Writes a model to a .keras or .h5 file, whole or not at all, replacing what stands there.

    A .keras file is one of Keras 3: a tf_keras model goes back through the bridge, checked. A .h5 file is one of tf_keras, and the only
    one that holds a quantization-aware model.

    Args:
      model: a tf_keras or Keras 3 model.
      path: where to; the ending says in which format.
      keras: for a .keras file the Keras that will read it, 3 or 2.

    Raises:
      UnsupportedModel: another ending, no Keras model, or .keras for a quantization-aware model, which Keras could write but not read
        back ("expected 5 variables, but received 3"): that one goes into .h5.
      BridgeError: the model does not come through the bridge unchanged.
      OptionError: keras is neither 2 nor 3.

    >>> save(small, "small.keras")
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise UnsupportedModel(f"{path}: expected a file name that ends in {' or '.join(ENDINGS)}")
    if keras not in (2, 3):
        raise OptionError(f"keras = {shown(keras)}: should be 3 or 2, the Keras that will read the file")
    if not bridge.is_keras3(model) and not isinstance(model, backend.keras().Model):
        raise UnsupportedModel(f"expected a tf_keras or Keras 3 model to save, got {type(model).__module__}.{type(model).__name__}")
    if path.suffix == ".keras" and any(backend.is_quantized(layer) for layer in model.layers):
        raise UnsupportedModel(f"{path}: a quantization-aware model can't be read back from .keras; save it as {path.stem}.h5")
    if path.suffix == ".keras" and keras == 3:
        model = model if bridge.is_keras3(model) else bridge.to_keras3(model)
    else:
        model = bridge.plain(model)
        for layer in model._flatten_layers():
            if problem := backend.lambda_activation(layer):
                raise UnsupportedModel(f"{path}: {problem}")
    with tempfile.TemporaryDirectory() as folder, _quietly():
        temporary = Path(folder) / f"model{path.suffix}"
        model.save(temporary, **({"include_optimizer": False} if path.suffix == ".h5" else {}))
        write_atomically(path, temporary.read_bytes())
    return path


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings that nobody can act on.

    That .h5 is old (.keras can't hold every model), that nothing is compiled, that mixed precision is slow here, that an optimizer which
    never ran has no state, and what will change in NumPy.
    """
    with backend.log_without("compiled metrics"), backend.log_without("Mixed precision compatibility"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(HDF5 file|Skipping variable loading for optimizer)", category=UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextlib.contextmanager
def _temporary_files_in(folder: str, wanted: bool) -> Iterator[None]:
    """Where Python's temporary files go meanwhile: Keras 2 unpacks a model's vocabularies there, and leaves them where reading fails."""
    before = tempfile.tempdir
    tempfile.tempdir = folder if wanted else before
    try:
        yield
    finally:
        tempfile.tempdir = before
