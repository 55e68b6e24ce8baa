"""Model files <-> models."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from . import backend
from .errors import UnsupportedModel
from .files import write_atomically

ENDINGS = (".keras", ".h5")


def load(path: str | os.PathLike) -> Any:
    """A tf_keras model from a .keras or .h5 file that tf_keras or `save` wrote; a quantization-aware one comes from .h5.

    Raises:
      UnsupportedModel: no such file, another ending, or a file that can't be read as a tf_keras model.

    >>> model = load("runs/digits/models/train.h5")
    """
    path = _checked(path)
    if not path.is_file():
        raise UnsupportedModel(f"{path}: no such file; expected a model that tf_keras saved")
    keras = backend.keras()
    try:
        with _scopes(path):
            model = keras.models.load_model(path, compile=False)
    except Exception as error:  # h5py, zipfile, json and Keras raise whatever they like on a damaged file
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise UnsupportedModel(f"{path}: can't be read as a model saved by tf_keras (Keras 2): {reason}") from error
    return model


def save(model: Any, path: str | os.PathLike) -> Path:
    """Writes a tf_keras model to a .keras or .h5 file, whole or not at all, replacing what stands there.

    Raises:
      UnsupportedModel: another ending; or .keras for a quantization-aware model, which Keras could write but not read back
        ("expected 5 variables, but received 3"): that one goes into .h5.
    """
    path = _checked(path)
    if not isinstance(model, backend.keras().Model):
        raise UnsupportedModel(f"expected a tf_keras model to save, got {type(model).__module__}.{type(model).__name__}")
    if path.suffix == ".keras" and any(backend.is_quantized(layer) for layer in model.layers):
        raise UnsupportedModel(f"{path}: a quantization-aware model can't be read back from .keras; save it as {path.stem}.h5")
    with tempfile.TemporaryDirectory() as folder, _quietly():
        temporary = Path(folder) / f"model{path.suffix}"
        model.save(temporary, **({"include_optimizer": False} if path.suffix == ".h5" else {}))
        write_atomically(path, temporary.read_bytes())
    return path


@contextlib.contextmanager
def _quietly():
    """Without two warnings that nobody can act on: that .h5 is old (.keras can't hold every model), and that nothing is compiled."""
    with backend.log_without("compiled metrics"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*HDF5 file", category=UserWarning)
        yield


def _checked(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise UnsupportedModel(f"{path}: expected a file name that ends in {' or '.join(ENDINGS)}")
    return path


def _scopes(path: Path) -> contextlib.AbstractContextManager:
    """TF-MOT's names where the file speaks of them: importing TF-MOT takes seconds, so not for every model."""
    if path.suffix == ".h5" and b"Quantize" in path.read_bytes():
        return backend.tfmot().quantization.keras.quantize_scope()
    return contextlib.nullcontext()
