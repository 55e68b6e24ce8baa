"""The one door to tensorflow, tf_keras and TF-MOT: lazy, in the right order, and leaving no trace.

The order matters. Importing TF-MOT writes `TF_USE_LEGACY_KERAS=1` into the environment, which child processes inherit, and if
nobody has touched `tf.keras` before, makes `tf.keras` mean tf_keras for the whole process: a Keras 3 user's next cell would break.
So `tf.keras` is touched first and the variable is put back.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any


@functools.cache
def tensorflow() -> ModuleType:
    """The module `tensorflow`, its C++ chatter kept off the terminal unless the user set TF_CPP_MIN_LOG_LEVEL."""
    if "tensorflow" in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return importlib.import_module("tensorflow")
    with _environment_kept("TF_CPP_MIN_LOG_LEVEL"), stderr_held_back():
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
        tf = importlib.import_module("tensorflow")
        tf.config.list_physical_devices()  # looks for GPUs now, and complains now where there are none
        return tf


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


def sklearn(module: str) -> ModuleType:
    """A module of scikit-learn, imported when it is needed: that takes a second."""
    return importlib.import_module(f"sklearn.{module}")


def one_blas_thread() -> Any:
    """A scope in which NumPy's linear algebra uses one thread, so that its results do not hang on how many there are.

    On a busy machine several wait for each other: the singular values of a ResNet50's kernels took six times as long with two.
    """
    return importlib.import_module("threadpoolctl").threadpool_limits(1, "blas")


def tensorflow_private(path: str) -> ModuleType:
    """A module of TensorFlow that its public names do not reach, e.g. `"framework.config"`."""
    tensorflow()
    return importlib.import_module(f"tensorflow.python.{path}")


def keras_private(path: str) -> ModuleType:
    """A module of tf_keras that its public names do not reach, e.g. `"saving.serialization_lib"`."""
    return importlib.import_module(f"{keras().__name__}.src.{path}")


def tfmot_private(path: str) -> ModuleType:
    """A module of TF-MOT that its public names do not reach, e.g. `"quantization.keras.quantize_wrapper"`."""
    tfmot()
    return importlib.import_module(f"tensorflow_model_optimization.python.core.{path}")


@contextlib.contextmanager
def stderr_held_back():
    """What anybody in the process writes to stderr meanwhile goes to a file, and to the terminal only if something is raised.

    For the moments in which C++ libraries say what no variable turns off: TensorFlow eight lines about oneDNN and missing CUDA when it
    is imported, LiteRT one about its delegate when it is first used.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            file.seek(0)
            os.write(2, file.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


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


def versions() -> dict[str, str]:
    """The versions of the libraries that decide what a run's numbers are; TF-MOT's from its metadata, since importing it is slow."""
    numpy = importlib.import_module("numpy")
    return {
        "tensorflow": tensorflow().__version__,
        "tf_keras": keras().__version__,
        "tensorflow-model-optimization": importlib.metadata.version("tensorflow-model-optimization"),
        "ai-edge-litert": importlib.metadata.version("ai-edge-litert"),
        "numpy": numpy.__version__,
    }


@contextlib.contextmanager
def log_without(words: str):
    """Keeps the messages that hold `words` out of TensorFlow's log meanwhile."""
    logger, others = tensorflow().get_logger(), lambda record: words not in record.getMessage()
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


def without_autograph(build: Callable, model: Any) -> Callable:
    """A function that builds a model out of `model`'s layers, with autograph off where it is not needed.

    Keras's and TF-MOT's layers are graph code already, and rewriting them costs a fresh process 1.5 of quantize_apply's 2.2 s. A layer or
    Lambda of the user's own may need it.
    """
    ours = all(type(layer).__module__.startswith("tf_keras.") and type(layer).__name__ != "Lambda" for layer in model._flatten_layers())
    return tensorflow().autograph.experimental.do_not_convert(build) if ours else build


@contextlib.contextmanager
def seeded(seed: int):
    """Makes all that draws from a global random state inside follow from `seed`, and leaves these states as they were.

    They are Python's, NumPy's, TensorFlow's, and Keras's, from which initializers without a seed of their own draw one. (NumPy's
    `default_rng()` and TensorFlow's `Generator` are states of their own, and their maker's affair.)
    """
    numpy, context, initializers = _random_states()
    before = random.getstate(), numpy.random.get_state(legacy=False), context._seed, getattr(context, "_rng", None)
    drawn = getattr(initializers, "generator", None)
    reseed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        numpy.random.set_state(before[1])
        context._seed, context._rng = before[2:]
        initializers.generator = drawn


def reseed(seed: int) -> None:
    """Makes what follows inside `seeded` follow from another seed."""
    numpy, context, initializers = _random_states()
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    # Not by tf.random.set_seed, which makes all operations of the process that were given a seed begin their numbers again.
    context._seed, context._rng = seed, random.Random(seed)
    initializers.generator = random.Random(seed)


def _random_states() -> tuple[Any, Any, Any]:
    """What holds them, beside the module `random`."""
    return importlib.import_module("numpy"), tensorflow_private("eager.context").context(), keras_private("backend")._SEED_GENERATOR


def operations_of(graph: Any) -> list[Any]:
    """The operations of a TensorFlow graph, its functions' too, as NodeDefs."""
    definition = graph.as_graph_def()
    return [*definition.node, *(node for function in definition.library.function for node in function.node_def)]


def is_python(operation: Any) -> bool:
    """Whether an operation of a graph calls a Python function."""
    return operation.op in ("PyFunc", "PyFuncStateless", "EagerPyFunc")


def keeps_random_state(operation: Any) -> bool:
    """Whether an operation of a graph draws from a state of its own, which nobody can read or set: those behind `tf.random.uniform`."""
    return "seed2" in operation.attr


@contextlib.contextmanager
def determinism_kept():
    """Leaves TensorFlow's setting, whether all operations have to be deterministic, as it was, whatever `set_determinism` made of it."""
    before = tensorflow_private("framework.config").is_op_determinism_enabled()
    try:
        yield
    finally:
        set_determinism(before)


def set_determinism(wanted: bool) -> None:
    """Whether operations add up in one order from now on, whatever order their threads come in."""
    config = tensorflow_private("framework.config")
    (config.enable_op_determinism if wanted else config.disable_op_determinism)()


def nodes_of(model: Any) -> list[Any]:
    """The calls of a functional tf_keras model's layers, each after those that it needs; inputs left out."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def remade(model: Any, layer: Callable[[Any], Any], arguments: Callable[[Any, dict], dict]) -> Any:
    """A model of other layers, called as those of `model` are: what clone_model does, but that an operation's arguments may change, too.

    Args:
      layer: `old layer -> new layer`; a nested model is one of them, and so are inputs.
      arguments: `(old layer, its keyword arguments) -> the new ones`, for operations on tensors.
    """
    if isinstance(model, keras().Sequential):
        return keras().Sequential([layer(each) for each in model._flatten_layers(include_self=False, recursive=False)], name=model.name)
    functional, made, old = keras_private("engine.functional"), {}, {}

    def note(each: Any) -> dict:
        made[each.name], old[each.name] = layer(each), each
        return {}

    config = functional.get_network_config(model, serialize_layer_fn=note)
    for entry in config["layers"]:
        each = old[entry["name"]]
        if type(each).__name__ in ("TFOpLambda", "SlicingOpLambda"):
            change = functools.partial(arguments, each)
            entry["inbound_nodes"] = [_with_arguments(node, change) for node in entry["inbound_nodes"]]
    inputs, outputs, _ = functional.reconstruct_from_config(config, created_layers=made)
    return keras().Model(inputs, outputs, name=model.name)


def _with_arguments(node: Any, change: Callable[[dict], dict]) -> Any:
    """A node's inputs as a config has them, [layer, call, output, keywords] or a structure of such, with other keywords."""
    if isinstance(node, dict):
        return {key: _with_arguments(each, change) for key, each in node.items()}
    if len(node) == 4 and isinstance(node[0], str):
        return [*node[:3], change(node[3])]
    return [_with_arguments(each, change) for each in node]


def plain_variable(value: Any) -> Any:
    """A variable that lives on one device, in a distribution strategy's scope, too."""
    return tensorflow_private("ops.resource_variable_ops").ResourceVariable(value, trainable=False)


def is_wrapped(layer) -> bool:
    """Whether a layer is one of TF-MOT's wrappers for pruning or clustering; asked by name, as below."""
    return type(layer).__name__.startswith(("PruneLowMagnitude", "ClusterWeights"))


def is_quantized(layer) -> bool:
    """Whether a layer emulates quantization (TF-MOT's wrappers); asked by name, so that TF-MOT need not be loaded."""
    return type(layer).__name__ in ("QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer", "QuantizeAnnotate")


def trusted_lambdas(trusted: bool = True):
    """A scope in which Lambda layers may be rebuilt from their own Python code: for copies of a model that is in memory already."""
    return keras_private("saving.serialization_lib").SafeModeScope(safe_mode=not trusted)


def saved_model_message() -> Any:
    """An empty protobuf message of a SavedModel's saved_model.pb."""
    tensorflow()
    return importlib.import_module("tensorflow.core.protobuf.saved_model_pb2").SavedModel()


def keras_metadata_message() -> Any:
    """An empty protobuf message of the keras_metadata.pb that Keras 2 puts beside it."""
    return importlib.import_module(f"{keras().__name__}.protobuf.saved_metadata_pb2").SavedMetadata()


def lambda_activation(layer: Any) -> str | None:
    """What is wrong with a layer whose activation is a lambda; None where it is none.

    tf_keras copies and saves a function by its name, and a lambda has none: "Error when deserializing class 'Dense'", and its bytecode.
    """
    functions = [getattr(layer, key, None) for key in ("activation", "recurrent_activation")]
    if not any(getattr(function, "__name__", "") == "<lambda>" for function in functions):
        return None
    return f"layer {layer.name!r}: its activation is a lambda, which can't be copied or saved; give it a name with def"
