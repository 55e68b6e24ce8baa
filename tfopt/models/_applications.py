"""Nets of tf_keras.applications as `backbone` takes them: under fixed names, with weights, and what they want of pixels."""

from __future__ import annotations

import contextlib
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import _archives, backend
from ..errors import DataError, OptionError, said, shown

# Layers by which a backbone that tfopt saved is known.
_OURS = {"preprocessing", "average"}
_STANDARD_DEVIATIONS = [0.229, 0.224, 0.225]  # of ImageNet's channels


def built(name: str, input_shape: tuple[int, ...], alpha: float | None, weights: str | Path | None) -> Any:
    """The net without its top; with weights, the channels of its input stand in the order red, green, blue.

    Raises:
      OptionError: it has no alpha; there are no such weights, or they do not fit. UnsupportedModel: their file can't be read.
      DataError: it takes no images as small as these.
    """
    if alpha is not None and "alpha" not in inspect.signature(_function(name)).parameters:
        raise OptionError(f"alpha = {shown(alpha)}: {name} has none, as MobileNet, MobileNetV2 and MobileNetV3 have; leave it out")
    file = {} if weights in (None, "imagenet") else _read(name, Path(weights))
    try:
        with _fresh_names():
            net = _made(name, input_shape, alpha, None)
    except ValueError as error:
        raise DataError(f"{name}: {said(error)}; use larger images, or another net") from error
    if weights is None:
        return net
    if weights == "imagenet":
        net.set_weights(_of_imagenet(name, input_shape, alpha))
    else:
        _assign(net, name, file, str(weights))
    for layer in net.layers:
        _repair(layer)
    if not file.keys() >= _OURS:
        _order_channels(net, name)
    return net


def preprocessing(name: str) -> Any:
    """A Rescaling from pixels of 0 to 1 to what the net takes."""
    scale, offset, _ = _pixels(name)
    return backend.keras().layers.Rescaling(_plain(scale), _plain(offset), name="preprocessing")


def _function(name: str) -> Callable:
    return getattr(backend.keras().applications, name)


def _made(name: str, input_shape: tuple[int, ...], alpha: float | None, weights: str | None) -> Any:
    given = {} if alpha is None else {"alpha": alpha}
    return _function(name)(weights=weights, include_top=False, input_shape=input_shape, **given)


def _of_imagenet(name: str, input_shape: tuple[int, ...], alpha: float | None) -> list[np.ndarray]:
    try:
        return _made(name, input_shape, alpha, "imagenet").get_weights()
    except Exception as error:  # Keras raises a bare one where it can't download
        raise OptionError(
            f"weights = 'imagenet': {name}: {said(error)}; download them elsewhere, or save {name}'s with save_weights, "
            "and give the .h5 file"
        ) from error


@contextlib.contextmanager
def _fresh_names() -> Iterator[None]:
    """Keras numbers the layers that have no name through the whole process; in here from the start, as in a fresh one."""
    names = backend.keras_private("backend")
    before = names.PER_GRAPH_OBJECT_NAME_UIDS, names.OBSERVED_NAMES
    names.PER_GRAPH_OBJECT_NAME_UIDS, names.OBSERVED_NAMES = weakref.WeakKeyDictionary(), set()
    try:
        yield
    finally:
        names.PER_GRAPH_OBJECT_NAME_UIDS, names.OBSERVED_NAMES = before


def _read(name: str, path: Path) -> dict[str, list[np.ndarray]]:
    if not path.is_file():
        raise OptionError(f"weights = {str(path)!r}: no such file; give a .h5 file with the weights of {name}, or 'imagenet'")
    return _archives.weights_in(path)


def _assign(net: Any, name: str, file: dict[str, list[np.ndarray]], path: str) -> None:
    """Assigns the arrays of the file's first layers to the net's, one after the other, as Keras does."""
    found = [(layer, arrays) for layer, arrays in file.items() if arrays]
    layers = [(layer.name, [*layer.trainable_weights, *layer.non_trainable_weights]) for layer in net.layers if layer.weights]
    for (layer, variables), (there, arrays) in zip(layers, found, strict=False):
        needed, given = [tuple(variable.shape) for variable in variables], [array.shape for array in arrays]
        if needed != given:
            raise OptionError(
                f"weights = {path!r}: does not fit {name} with these options: layer {layer!r} needs {_shapes(needed)}, "
                f"{there!r} in the file has {_shapes(given)}; give the file of this net, or change net or alpha"
            )
    if len(found) < len(layers):
        raise OptionError(
            f"weights = {path!r}: holds {len(found)} layers with weights, {name} without its top has {len(layers)}; "
            "give the file of the whole net"
        )
    for (_, variables), (_, arrays) in zip(layers, found, strict=False):
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)


def _order_channels(net: Any, name: str) -> None:
    """The first kernel with its inputs in the order red, green, blue, where the net was taught on another."""
    places = _pixels(name)[2].tolist()
    if places != [0, 1, 2]:
        first = next(layer for layer in net.layers if layer.weights)
        kernel, *others = first.get_weights()
        first.set_weights([kernel[..., places, :], *others])


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))


def _repair(layer: Any) -> None:
    """Squares what EfficientNet's Normalization of ImageNet holds for variances: they are standard deviations. Keras divides by their roots
    once more, in an operation that only its own download gets (tensorflow issue 49930).
    """
    if type(layer).__name__ == "Normalization" and layer.weights:
        mean, variance, count = layer.get_weights()
        if np.allclose(variance, _STANDARD_DEVIATIONS):
            variance = variance**2
        layer.set_weights([mean, variance, count])


def _pixels(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the net's `preprocess_input` does with red, green and blue of 0 to 1: for each a factor, a summand, and the place it goes to."""
    preprocess = sys.modules[_function(name).__module__].preprocess_input
    pixels = 255.0 * np.eye(4, 3, -1, dtype=np.float32)  # black, red, green, blue
    black, *colors = (preprocess(pixel.reshape(1, 1, 1, 3)).ravel() for pixel in pixels)
    places = np.array([np.argmax(color - black) for color in colors])
    return np.array([(color - black)[place] for color, place in zip(colors, places, strict=True)]), black[places], places


def _plain(values: np.ndarray) -> float | list[float]:
    """One number where all are the same."""
    return float(values[0]) if np.ptp(values) == 0 else values.tolist()
