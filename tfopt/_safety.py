"""What a model's config may name: nothing in it is built, called or imported before all of it was looked through here.

A config is a tree of JSON in which a dict with a `class_name` stands for an object. Keras imports the `module` of such a dict, calls what
a `function` names, and runs the Python code of a Lambda. So each has to be a class or function that Keras has loaded already, of the
kinds that models are made of, or one that the user gave.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .errors import UnsupportedModel, shown

DEEPEST = 250  # levels of JSON; a model three times nested has 30
SAFE_OPERATIONS = re.compile(
    r"(compat\.v1\.)?((math|nn|image|linalg|signal|bitwise|random|strings|quantization|__operators__|keras\.(backend|activations))\.)?\w+"
)

_VALUES = ("__tuple__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__", "TensorShape")
_TYPE_SPECS = ("tf.TensorSpec", "tf.RaggedTensorSpec", "tf.SparseTensorSpec", "TensorSpec", "RaggedTensorSpec", "SparseTensorSpec")
_CODE = ("Lambda", "__lambda__")
_FOREIGN = ("TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "DenseFeatures", "SequenceFeatures")
# Operations of a graph that reach out of it: into Python, files, other processes. By words, since there are several of each kind.
_REACHING_OUT = re.compile(
    "PyFunc|File|Reader|Dataset|Save|Restore|Checkpoint|Snapshot|Summary|^Print|^Debug|ImmutableConst|Rpc|Remote|Lmdb|Sql|Collective|"
    "VocabRemapping|RemapMatrix|Proto|UnigramCandidate|RecordInput|Skipgram|DumpTensor|Send|Recv|CustomCall|HostCompute"
)
_TOUCHING = ("io_ops", "script_ops", "logging_ops", "lookup_ops", "load_library", "data_flow_ops", "summary_ops", "debug_ops")
_KINDS = "layers.Layer initializers.Initializer regularizers.Regularizer constraints.Constraint losses.Loss metrics.Metric "
_KINDS += "optimizers.Optimizer optimizers.legacy.Optimizer optimizers.schedules.LearningRateSchedule mixed_precision.Policy Operation "
_KINDS += "mixed_precision.DTypePolicy quantizers.Quantizer"
_FUNCTION_HOMES = ("activations", "losses", "metrics", "initializers", "ops", "ops.nn", "ops.numpy", "ops.image", "ops.linalg")
_ALSO_KNOWN = ("leaky_relu", "log_softmax", "relu6", "silu")  # to Keras 2, as activations
_STRINGS = ("activation", "recurrent_activation")  # keys whose value is the name of a function
_TRUST = "load it with trust=True (on the command line --trust) if you trust where the file comes from"


@dataclass
class Library:
    """What one Keras has for models to be made of.

    Attributes:
      keras: the module `keras` or `tf_keras`.
      classes, functions: by every name under which a config may know them.
    """

    keras: ModuleType
    classes: dict[str, type] = field(init=False)
    functions: dict[str, Any] = field(init=False)

    def __post_init__(self):
        self.name = self.keras.__name__
        self._kinds = tuple(kind for path in _KINDS.split() if isinstance(kind := _attribute(self.keras, path), type))
        homes = {path: module for path in _FUNCTION_HOMES if (module := _attribute(self.keras, path)) is not None}
        self.classes = {kind.__name__: kind for kind in _with_children(self._kinds) if self._ours(kind)}
        for objects in [vars(value) for value in vars(self.keras).values() if isinstance(value, ModuleType)] + [self._old_names()]:
            self.classes |= {name: value for name, value in objects.items() if self.is_part(value)}
        self.functions = {
            name: value
            for module in homes.values()
            for name, value in vars(module).items()
            if callable(value) and name not in ("get", "serialize", "deserialize") and not isinstance(value, type)
        }
        known = sys.modules[self.keras.activations.get.__module__]  # where a name is looked up; more is known there than is public
        self.functions |= {name: value for name in _ALSO_KNOWN if (value := getattr(known, name, None)) is not None}

    def _old_names(self) -> dict[str, Any]:
        """Keras 2's own table for names that it once gave, such as BatchNormalizationV1."""
        table = sys.modules.get(f"{self.name}.src.layers.serialization")
        if not hasattr(table, "populate_deserializable_objects"):
            return {}
        table.populate_deserializable_objects()
        return table.LOCAL.ALL_OBJECTS

    def is_part(self, value: Any) -> bool:
        """Whether a class is one of this Keras's own that may stand in a model."""
        return (
            isinstance(value, type) and issubclass(value, self._kinds) and self._ours(value) and value.__name__ not in (*_CODE, *_FOREIGN)
        )

    def _ours(self, kind: type) -> bool:
        return kind.__module__.partition(".")[0] in (self.name, "tfopt")

    def found(self, module: Any, name: str) -> Any:
        """What Keras finds under `module` and `name`, without importing anything; None where it would have to."""
        if not isinstance(module, str) or module.partition(".")[0] not in ("keras", self.name):
            return None
        loaded = sys.modules.get(self.name + module.removeprefix(module.partition(".")[0]))
        return None if loaded is None else vars(loaded).get(name)

    def registered(self, name: Any) -> Any:
        """What `register_keras_serializable` gave this name to, by whomever."""
        return self.keras.saving.get_registered_object(name) if isinstance(name, str) else None


def _attribute(module: ModuleType, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part, None)
    return module


def _with_children(kinds: Iterable[type]) -> set[type]:
    found, waiting = set(), list(kinds)
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.add(kind)
            waiting += kind.__subclasses__()
    return found


@dataclass
class Check:
    """One look through a config.

    Args:
      source: the file, as messages call it.
      library: the Keras that will build the model.
      custom: classes and functions that were given for it, by name; those that the config knows by another name get that, too.
      known: further names that the classes in `custom` look up for themselves.
      trust: whether Python code in the file may run.
      inner: the Keras of the layers that tfopt's own layers carry.

    Attributes:
      moved: whether the config was changed, since it named modules by what they were called in Keras 2.12.
    """

    source: str
    library: Library
    custom: dict[str, Any]
    known: tuple[str, ...] = ()
    trust: bool = False
    inner: Library | None = None
    moved: bool = field(init=False, default=False)
    _code: list[str] = field(init=False, default_factory=list)
    _missing: dict[str, str] = field(init=False, default_factory=dict)

    def __call__(self, config: Any) -> None:
        """Raises UnsupportedModel unless everything that the config names may be built."""
        for part, layer, library in self._parts(config):
            self._look(part, layer, library)
        where = ", ".join(dict.fromkeys(self._code))
        if self._code and not self.trust:
            raise UnsupportedModel(f"{self.source}: holds Python code of its own ({where}), which could do anything; {_TRUST}")
        if self._missing:
            listing = ", ".join(f"{name!r} ({where})" for name, where in self._missing.items())
            example = ", ".join(f"{name!r}: {name.rpartition('>')[2]}" for name in self._missing)
            raise UnsupportedModel(
                f"{self.source}: needs {listing}, which {self.library.name} does not have; "
                f"if they are your own, give them: tfopt.load(path, custom_objects={{{example}}})"
            )

    def _parts(self, config: Any) -> Iterator[tuple[Mapping[str, Any], str, Library]]:
        """Every dict of the tree, with the name of the layer that it belongs to and the Keras that it speaks of."""
        waiting = [(config, "the model", self.library, 0)]
        while waiting:
            value, layer, library, depth = waiting.pop()
            if depth > DEEPEST:
                raise UnsupportedModel(f"{self.source}: its config is nested deeper than {DEEPEST} levels, which no model's is")
            if isinstance(value, Mapping):
                name = value["config"].get("name") if isinstance(value.get("config"), Mapping) and "class_name" in value else None
                layer = f"layer {shown(name)}" if isinstance(name, str) else layer
                yield value, layer, library
                carried = self.inner is not None and str(value.get("registered_name") or value.get("class_name")).startswith("tfopt>")
                waiting += [(one, layer, self.inner if carried else library, depth + 1) for one in value.values()]
            elif isinstance(value, list | tuple):
                waiting += [(one, layer, library, depth + 1) for one in value]

    def _look(self, part: Mapping[str, Any], layer: str, library: Library) -> None:
        for key, value in part.items():
            if isinstance(value, str):
                self._look_at_string(key, value, layer)
        if "class_name" not in part:
            return
        name = part["class_name"]
        if not isinstance(name, str):
            raise self._refused(layer, f"has the class name {shown(name)}, which is no name")
        if not isinstance(part.get("registered_name"), str | None):
            raise self._refused(layer, f"is registered as {shown(part['registered_name'])}, which is no name")
        if name in _CODE:
            self._code.append(layer)
        elif name == "function":
            self._look_at_function(part, layer, library)
        elif name == "TypeSpec":
            if part.get("type_spec") not in _TYPE_SPECS:
                raise self._refused(layer, f"names the type {shown(part.get('type_spec'))}, which no model of this kind needs")
        elif name not in _VALUES:
            self._look_at_class(part, name, layer, library)

    def _look_at_string(self, key: str, value: str, layer: str) -> None:
        if key.endswith("_type") and value == "lambda":
            self._code.append(layer)
        elif key == "vocabulary" and not self.trust:
            raise self._refused(layer, f"would read its vocabulary from the file {shown(value)}; {_TRUST}")

    def _look_at_class(self, part: dict[str, Any], name: str, layer: str, library: Library) -> None:
        if name in _FOREIGN:
            raise self._refused(layer, f"is a {name}, which brings along what can't be looked through; build it from other layers")
        if self._is_given(part, name):
            return
        if not self._is_builtin(part, name, library):
            self._missing[name] = f"{layer}, module {shown(part['module'])}" if part.get("module") else layer
        config = part.get("config")
        if isinstance(config, Mapping):
            self._look_at_operation(name, config, layer)
            known = {*library.functions, *library.classes, *self.custom, *self.known, "softmax_v2"}
            for key in _STRINGS:
                if isinstance(value := config.get(key), Mapping) and "class_name" not in value:
                    raise self._refused(layer, f"has a lambda for {key}, which no file keeps whole; save the model with a named function")
                if isinstance(value, str) and value not in known:
                    self._missing[value] = f"{key} of {layer}"

    def _is_given(self, part: Mapping[str, Any], name: str) -> bool:
        """Whether Keras will take one of the classes that were given, under the name that it was registered as or its own."""
        registered = part.get("registered_name", name)
        if registered in self.custom:
            return True
        if name in self.custom and isinstance(registered, str):
            self.custom[registered] = self.custom[name]
            return True
        return name in self.custom and "module" not in part

    def _is_builtin(self, part: Mapping[str, Any], name: str, library: Library) -> bool:
        for registered in {name, part.get("registered_name") or name}:
            if (kind := library.registered(registered)) is not None:
                return library.is_part(kind)
        if part.get("module"):
            return library.is_part(self._found(part, name, library))
        return name in library.classes or name in self.known

    def _found(self, part: dict[str, Any], name: str, library: Library) -> Any:
        """What Keras finds under the part's module and a name; where only the module's name of today leads there, the part gets that."""
        module = part["module"]
        today = f"keras.src.{module.removeprefix('keras.')}" if isinstance(module, str) and library is self.library else module
        if library.found(module, name) is None and library.name == "tf_keras" and library.found(today, name) is not None:
            self.moved, part["module"] = True, today
        return library.found(part["module"], name)

    def _look_at_function(self, part: Mapping[str, Any], layer: str, library: Library) -> None:
        name, registered, module = part.get("config"), part.get("registered_name"), part.get("module")
        if not isinstance(name, str):
            raise self._refused(layer, f"names the function {shown(name)}, which is no name")
        given = next((one for one in (name, registered) if isinstance(one, str) and one in self.custom), None)
        if given is not None:
            self.custom[name] = self.custom[given]
            return
        function = library.functions.get(name)
        usual = module == "builtins" or self._found(part, name, library) is function
        if function is None or not usual or registered not in (None, "function", name):
            self._missing[name] = f"{layer}, a function of module {shown(module)}"

    def _look_at_operation(self, name: str, config: Mapping[str, Any], layer: str) -> None:
        """The layers that stand for an operation of TensorFlow, by its name."""
        if name in ("TFOpLambda", "SlicingOpLambda"):
            symbol = config.get("function")
            if not isinstance(symbol, str) or not _is_computation(symbol, self.library):
                raise self._refused(layer, f"calls {shown(symbol)}, which is no operation that only computes")
        elif name == "ClassMethod":
            if config.get("cls_symbol") != "RaggedTensor" or not _is_public(config.get("method_name")):
                raise self._refused(layer, f"calls {shown(config.get('method_name'))} of {shown(config.get('cls_symbol'))}")
        elif name == "TensorFlowOpLayer":
            node = config.get("node_def")
            operation = node.get("op") if isinstance(node, Mapping) else node
            if not isinstance(node, Mapping) or not isinstance(operation, str) or reaches_out(operation):
                raise self._refused(layer, f"holds the operation {shown(operation)}, which can't be seen to compute only")
        elif name in ("InstanceMethod", "InstanceProperty") and not _is_public(config.get("attr_name")):
            raise self._refused(layer, f"uses {shown(config.get('attr_name'))}, which is no public attribute of a tensor")

    def _refused(self, layer: str, reason: str) -> UnsupportedModel:
        return UnsupportedModel(f"{self.source}: {layer} {reason}")


def reaches_out(operation: str) -> bool:
    """Whether an operation of a TensorFlow graph runs Python, reads or writes files, or speaks to other processes.

    >>> reaches_out("Conv2D"), reaches_out("EagerPyFunc"), reaches_out("WriteFile")
    (False, True, True)
    """
    return bool(_REACHING_OUT.search(operation))


def _is_public(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and not name.startswith("_")


def _is_computation(symbol: str, library: Library) -> bool:
    """Whether a symbol of TensorFlow's API is an operation on tensors that touches no file, no process and no Python code."""
    if not SAFE_OPERATIONS.fullmatch(symbol):
        return False
    layer = library.classes["TFOpLambda"]
    function = sys.modules[layer.__module__].get_symbol_from_name(symbol)
    if not isinstance(function, types.FunctionType) or not hasattr(function, "_tf_fallback_dispatchers"):
        return False  # only what dispatches on its arguments can have become such a layer
    home = function.__module__
    return home.startswith(("tensorflow.python.", "tf_keras.src.")) and not home.endswith(_TOUCHING)
