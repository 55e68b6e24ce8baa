"""Where the model lives and trains: a `tf.distribute` strategy chosen by name."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from . import backend, options
from .errors import OptionError, nearest
from .types import Call

Devices = Annotated[Sequence[str], Field(min_length=1)]


@options.checked
def one(*, devices: Devices | None = None) -> Any:
    """One device: TensorFlow's default strategy, or OneDeviceStrategy on the first of `devices` where they are given."""
    tf = backend.tensorflow()
    if devices is None:
        return tf.distribute.get_strategy()
    return _one_device(_known(devices)[0])


@options.checked
def mirrored(*, devices: Devices | None = None) -> Any:
    """A copy of the model on each device, every batch split between them (MirroredStrategy). Default: all GPUs, else the one CPU.

    `devices` are names such as "GPU:0" or "CPU:1"; logical devices count.
    """
    return _mirrored(_known(devices) if devices is not None else None)


@functools.cache
def _one_device(device: str) -> Any:
    return backend.tensorflow().distribute.OneDeviceStrategy(device)


@functools.cache  # a second MirroredStrategy object in one process died with "Shape mismatch in the collective instance"
def _mirrored(devices: tuple[str, ...] | None) -> Any:
    return backend.tensorflow().distribute.MirroredStrategy(list(devices) if devices else None)


def _known(devices: Sequence[str]) -> tuple[str, ...]:
    """The devices' names, each checked against what this process has."""
    present = {d.name.removeprefix("/device:") for d in backend.tensorflow().config.list_logical_devices()}
    wanted = tuple(d.removeprefix("/").removeprefix("device:").upper() for d in devices)
    for name in wanted:
        if name not in present:
            raise OptionError(f"devices: this process has no {name!r}; {nearest(name, present)}")
    return wanted


STRATEGIES = {"auto": one, "mirrored": mirrored, "one": one}


def pick(name: str = "auto", **given: Any) -> Any:
    """The strategy of that name: "one", "mirrored", or "auto", which means "one".

    Raises:
      OptionError: an unknown name, or a device that this process does not have.

    >>> with pick("mirrored", devices=["GPU:0", "GPU:1"]).scope():
    ...     model = tfopt.models.convnet((28, 28, 1), 10)
    """
    if name not in STRATEGIES:
        raise OptionError(f"strategy {name!r}: no such strategy; {nearest(name, STRATEGIES)}")
    return STRATEGIES[name](**given)


def picked(call: Call) -> Any:
    """The strategy that a recipe asks for."""
    return pick(call.use, **call.options)
