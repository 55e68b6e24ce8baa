"""The one door to tensorflow, tf_keras and TF-MOT: lazy, in the right order, and leaving no trace.

The order matters. Importing TF-MOT writes `TF_USE_LEGACY_KERAS=1` into the environment, which child processes inherit, and if
nobody has touched `tf.keras` before, makes `tf.keras` mean tf_keras for the whole process: a Keras 3 user's next cell would break.
So `tf.keras` is touched first and the variable is put back.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import warnings
from types import ModuleType


@functools.cache
def tensorflow() -> ModuleType:
    """The module `tensorflow`, with its C++ chatter below errors turned off unless the user set TF_CPP_MIN_LOG_LEVEL."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return importlib.import_module("tensorflow")


@functools.cache
def keras() -> ModuleType:
    """The module `tf_keras` (Keras 2)."""
    tensorflow()
    return importlib.import_module("tf_keras")


@functools.cache
def tfmot() -> ModuleType:
    """The module `tensorflow_model_optimization`, imported without its effects on the rest of the process."""
    tf = tensorflow()
    with _environment_kept("TF_USE_LEGACY_KERAS"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # distutils and pkg_resources deprecations, in an import that can't be changed
        _ = tf.keras.layers  # decides what tf.keras means, before TF-MOT does
        keras()
        return importlib.import_module("tensorflow_model_optimization")


def tfmot_private(path: str) -> ModuleType:
    """A module of TF-MOT that its public names do not reach, e.g. `"quantization.keras.quantize_wrapper"`."""
    tfmot()
    return importlib.import_module(f"tensorflow_model_optimization.python.core.{path}")


@contextlib.contextmanager
def _environment_kept(name: str):
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
