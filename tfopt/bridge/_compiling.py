"""How a model is compiled, from one Keras to the other: optimizer, loss and metrics, where both know them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from .. import backend
from ..tracing import log

_KEYS = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly", "steps_per_execution")
# Keys that one of the two does not have and that change nothing that is computed here.
_NO_MATTER = {"jit_compile", "is_legacy_optimizer", "name", "fn", "dtype"}
_PLACES = ("optimizers", "optimizers.schedules", "losses", "metrics")


class _Unknown(Exception):
    """Something that the other Keras does not have."""


def carry_compilation(source: Any, target: Any, keras: ModuleType) -> None:
    """Compiles `target` as `source` is compiled, if it is.

    The optimizer's settings come over, not its momenta. What does not map is said in the log, and `target` stays uncompiled.

    Args:
      keras: the module that `target` is of.
    """
    try:
        config = source.get_compile_config()
        if config:
            target.compile(**{key: _translated(config[key], keras) for key in _KEYS if config.get(key) is not None})
            if keras is not backend.keras():  # Keras 3 can't read a file back whose optimizer has no variables yet
                target.optimizer.build(target.trainable_variables)
    except (_Unknown, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        log.warning("%s: not compiled like the model that it was made from, since %s; compile it anew", source.name, reason)


def _translated(value: Any, keras: ModuleType) -> Any:
    if isinstance(value, list | tuple):
        return [_translated(one, keras) for one in value]
    if not isinstance(value, Mapping):
        return value
    if "class_name" not in value:
        return {key: _translated(one, keras) for key, one in value.items()}
    return _object(value, keras)


def _object(value: Mapping[str, Any], keras: ModuleType) -> Any:
    kind = value["class_name"]
    if kind == "function":
        name = value["config"]  # no more than its name: Keras 2 says "builtins" of its own functions and of the user's
        if not isinstance(name, str) or not any(hasattr(_inner(keras, place), name) for place in ("losses", "metrics")):
            raise _Unknown(f"its function {name!r} is not one of Keras's own")
        return name
    cls = next((found for place in _PLACES if isinstance(found := getattr(_inner(keras, place), kind, None), type)), None)
    if cls is None:
        raise _Unknown(f"{keras.__name__} has no {kind}")
    known = _parameters(cls)
    config = {key: _translated(one, keras) for key, one in value["config"].items()}
    left_out = [key for key in config if key not in known and key not in _NO_MATTER and config[key]]
    if left_out:
        raise _Unknown(f"{keras.__name__}'s {kind} has no {left_out[0]}")
    if config.get("reduction") == "auto":
        config["reduction"] = "sum_over_batch_size"
    return cls(**{key: one for key, one in config.items() if key in known and key not in ("fn", "dtype") and one is not None})


def _inner(module: ModuleType, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _parameters(cls: type) -> set[str]:
    parents = [parent for parent in cls.__mro__ if "__init__" in vars(parent)]
    return {name for parent in parents for name in inspect.signature(parent.__init__).parameters} - {"self"}
