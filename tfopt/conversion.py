"""A trained model -> a TFLite file: `convert(model, format) -> Artifact`.

| format | weights | computes in | needs |
|---|---|---|---|
| float32 | float32 | float32 | |
| float16 | float16, half the bytes | float32 on a CPU, float16 where the device can | |
| dynamic | int8 | int8 products, ranges found while it runs; the rest float32 | |
| int8 | int8 | int8 wherever there is a kernel for it, ranges fixed | calibration data, or a quantization-aware model |

Each takes `preprocessing=True`: the preparations of the data become float operations in front of the model's, which stay the same. The
file then takes raw examples (bytes, a wave, ...), of their own dtype, and says so in its metadata (see `tfopt.deployment`).

int8 is the scheme of Jacob et al. 2018, arXiv:1712.05877. In dynamic, the converter leaves kernels of fewer than 1,024 elements float32.

The converter runs in a process of its own (`tfopt._convert`), because it ends the process that it runs in on some models; here that
becomes a ConversionError. The process stays warm for the next conversion; `warm_up` starts it early.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import _flatbuffer, _inputs, _joining, backend, bridge, deployment, options, pipelines, tasks
from ._suppressing import Suppression
from ._worker import Worker, WorkerDied
from .errors import ArtifactError, ConversionError, DataError, OptionError, UnsupportedModel, nearest, shown
from .surgery import precision
from .types import Artifact, Call, Data, SavedModel

LONGEST_TIMEOUT = 1_000_000  # seconds; the operating system counts milliseconds in 31 bits
LONGEST_REASON = 1_500  # characters, of an error's message
MOST_LINES = 15

# MLIR's lines look like `<unknown>:0: error: loc(callsite(fused["Op:", "net/layer/Op@function"] at ...)): what is wrong`, where the place
# can be thousands of characters; notes repeat the errors and dump the whole graph over many lines.
_START = re.compile(r"<unknown>:0: |[EIW]\d{4} |WARNING: |[A-Z]\w*(Error|Exception): ")
_NOTE = re.compile(r"<unknown>:0: note: |[IW]\d{4} |WARNING: All log messages")
_PLACE = re.compile(r'<unknown>:0: error: loc\(.*?fused\["[^"]*", "([^"@]*)[^"]*"\].*"\]\)*: ')
_MORE_SPACE = "free some space, or set TMPDIR to a folder that has it"

_lock = threading.Lock()
_worker: Worker | None = None


@options.checked
def float32(*, preprocessing: bool = False) -> dict[str, Any]:
    """Weights and arithmetic in float32."""
    return {"optimize": False, "float16": False, "io": None, "preprocessing": preprocessing}


@options.checked
def float16(*, preprocessing: bool = False) -> dict[str, Any]:
    """Weights in float16: half the bytes."""
    return {"optimize": True, "float16": True, "io": None, "preprocessing": preprocessing}


@options.checked
def dynamic(*, preprocessing: bool = False) -> dict[str, Any]:
    """Weights in int8, activations quantized while it runs. A quarter of the bytes; on a CPU it can be slower than float32."""
    return {"optimize": True, "float16": False, "io": None, "preprocessing": preprocessing}


@options.checked
def int8(*, io: Literal["int8", "uint8", "float32"] = "int8", preprocessing: bool = False) -> dict[str, Any]:
    """Weights and activations in int8. `io` is the type at the model's inputs and outputs; with preprocessing, at its outputs."""
    takes = "float32" if preprocessing else io  # 8 bits of a raw table or sound would lose what its preparations need
    return {"optimize": True, "float16": False, "io": [takes, io], "preprocessing": preprocessing}


FORMATS = {"float32": float32, "float16": float16, "dynamic": dynamic, "int8": int8}


def label(call: Call) -> str:
    """How a format is called in names and limits: its own name, and what differs from its defaults.

    >>> label(Call("int8", {"io": "uint8"}))
    'int8-uint8'
    >>> label(Call("int8", {"preprocessing": True}))
    'int8-preprocessing'
    """
    known = options.options_of(FORMATS[call.use])
    different = {name: call.options[name] for name, option in known.items() if call.options.get(name, option.default) != option.default}
    return "-".join([call.use, *(name if value is True else str(value) for name, value in different.items())])


def convert(
    model: Any,
    format: str = "float32",
    *,
    data: Data | None = None,
    name: str | None = None,
    steps: Sequence[str] = (),
    timeout: float = 600,
    **format_options: Any,
) -> Artifact:
    """Converts a model to a TFLite file.

    The same weights under the same layer names give the same bytes every time. The batch dimension stays free, but is fixed to 1
    for models with recurrent layers, which the converter takes in no other way. Other free dimensions, such as an image's size, are
    fixed to those of the data's examples; without data they stay free. A SavedModel is converted with the shapes of its signature.
    A mixed-precision model is converted as one that computes in float32, since the converter refuses half precision.

    Args:
      model: a built tf_keras or Keras 3 model, or a `SavedModel` (what `tfopt.load` gives for a SavedModel's folder).
      format: a key of FORMATS.
      data: its calibration examples give int8 its ranges, its input_shape fixes the model's free dimensions, and where it holds indices
        the file takes int32. Not needed by other formats and for quantization-aware models.
      name: the artifact's; by default the model's name and the format's label.
      steps: what made the model; kept in the artifact.
      timeout: seconds that the converter may take, above 0 and at most 1,000,000.
      **format_options: of the format, e.g. `io="uint8"` of int8, or `preprocessing=True` for a file that takes the data's raw examples.

    Raises:
      OptionError: no such format or option, or a timeout out of range.
      UnsupportedModel: none of these models, or one that is not built; a .tflite, which is converted already.
      BridgeError: a Keras 3 model that does not come through the bridge unchanged.
      DataError: `data` is no Data or does not fit the model where it is needed; int8 without calibration data; preprocessing without data.
      ConversionError: the converter refused, crashed or ran out of time, perhaps on a step of the preprocessing, which is named; the model
        is quantization-aware and the format is not int8.

    Example:
      artifact = convert(model, "int8", data=data)
      artifact.save("digits.tflite")
    """
    settings = _settings(format, format_options)
    _check_timeout(timeout)
    model = bridge.plain(model)
    _check_model(model)
    if not isinstance(model, SavedModel):
        model = precision.in_float32(model)
    if data is not None:
        pipelines.check_data(data)
    quantization_aware = any(backend.is_quantized(layer) for layer in _inputs.layers_of(model))
    if quantization_aware and format != "int8":
        raise ConversionError(
            f"{model.name} to {format}: the model is quantization-aware, and its {format} file would carry int8's rounding; "
            "convert it to int8, or convert the model from before quantize_aware"
        )
    examples = None if format != "int8" or quantization_aware else _inputs.calibration(model, data)
    tag = label(Call(format, format_options))
    specs = _inputs.specs(model, f"{model.name} to {tag}", data)
    front = _front(model, f"{model.name} to {tag}", data, timeout) if settings["preprocessing"] else None
    content = _converted(model, f"{model.name} to {tag}", examples, specs, settings, timeout)
    if front is not None:
        content = deployment.with_inside(_joining.joined(front, content) if front else content, deployment.preprocessing_of(data))
    return Artifact(name or re.sub(r"[^\w.-]+", "-", f"{model.name}-{tag}"), tag, content, tuple(steps))


def _front(model: Any, what: str, data: Data | None, timeout: float) -> bytes:
    """The data's preparations as a .tflite; no bytes where there are none.

    Raises:
      ConversionError: names the first step that the converter does not take.
    """
    if data is None:
        raise DataError(f"{what}: its preprocessing is that of the data; give data=")
    found = deployment.preprocessing_of(data)
    steps = found.steps

    def made(count: int) -> bytes:
        front = _inputs.Front(model, what, data, dataclasses.replace(found, steps=steps[:count]))
        return _converted(front, what, None, front.specs, float32(), timeout)

    try:
        return made(len(steps)) if steps else b""
    except ConversionError:
        for count, step in enumerate(steps, 1):
            try:
                made(count)
            except ConversionError as error:
                reason = str(error).partition("\n")[2] or error  # its first line gives advice about formats
                raise ConversionError(
                    f"{what}: the step {step.use!r} of the preprocessing can't become part of a .tflite; leave out preprocessing, and "
                    f"let the app do what `tfopt.preprocessing_of` says\n{reason}"
                ) from None
        raise


def with_detections(
    artifact: Artifact, data: Data, *, most: int = 100, least: float = 0.25, same: float = 0.5, timeout: float = 600
) -> Artifact:
    """A detector's file with non-maximum suppression behind its own operations, which stay as they are: what `tasks.detections` does with
    its outputs, in float32, by operations that LiteRT brings with it.

    It puts out, for one picture and always `most` of them, the surest first: "boxes" (most, 4) as ymin, xmin, ymax, xmax in shares of it,
    "scores" (most,), "classes" (most,), indices of the data's classes, and "count" (1,), how many there are; behind these boxes and
    scores are 0, and classes -1. `Session.run` gives them in this order. Verify the file from before: its outputs have a score.

    Args:
      artifact: what `convert` has made of a detector. data: what it was made for; it says where the anchors are.
      most, least, same: as of `tasks.detections`.
      timeout: as of `convert`.

    Raises:
      DataError: the data has no boxes, or the file is no detector for it.
      OptionError: an option out of range. ConversionError: as `convert`.

    >>> boxes, scores, classes, count = tfopt.Session(with_detections(int8, data)).run(picture)
    """
    _check_timeout(timeout)
    if not isinstance(artifact, Artifact):
        raise ArtifactError(f"{shown(artifact)} is no artifact; give what convert has made, or tfopt.load(PATH)")
    _flatbuffer.contents(artifact)
    anchors, given = tasks.anchors(data), _joining.outputs_of(artifact.content)
    wanted = tasks.of(data).outputs()[0]
    if len(given) != 1 or given[0].shape[1:] != wanted:
        shapes = " and ".join(str(one.shape[1:]) for one in given)
        raise DataError(
            f"{artifact.name}: puts out {shapes}; a detector for {data.name} puts out {wanted}; use the data that it was made for"
        )
    what = f"{artifact.name} with detections"
    back = Suppression(given[0], anchors, **tasks.checked_suppression(most, least, same))
    content = _joining.joined(artifact.content, _converted(back, what, None, back.specs, float32(), timeout), _DETECTIONS)
    prepared = deployment.inside(artifact.name, artifact.content)
    content = content if prepared is None else deployment.with_inside(content, prepared)
    return dataclasses.replace(artifact, name=f"{artifact.name}-detections", content=content)


_DETECTIONS = ("boxes", "scores", "classes", "count")


def warm_up() -> None:
    """Starts the converter's process without waiting for it, so that it is ready when the first model is. Never needed."""
    with _lock, contextlib.suppress(OSError):  # convert will say it
        _ready_worker()


def shut_down() -> None:
    """Ends the converter's process; the next conversion starts another. Happens by itself when Python ends."""
    global _worker
    with _lock:
        if _worker is not None:
            _worker.stop()
            _worker = None


atexit.register(shut_down)


def _ready_worker() -> Worker:
    global _worker
    _stop_if_dead()
    if _worker is None:
        _worker = Worker()
    return _worker


def _stop_if_dead() -> None:
    global _worker
    if _worker is not None and not _worker.alive:
        _worker.stop()
        _worker = None


def _settings(format: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(format, str) or format not in FORMATS:
        wanted = format if isinstance(format, str) else ""
        raise OptionError(f"format {shown(format)}: no such format; {nearest(wanted, FORMATS)}")
    problems = options.problems_with(FORMATS[format], given)
    if problems:
        raise OptionError(f"format {format!r}: " + "; ".join(problems))
    return FORMATS[format](**given)


def _check_timeout(timeout: Any) -> None:
    problem = options.problem_of_type(float, timeout)
    if problem or not 0 < timeout <= LONGEST_TIMEOUT:
        raise OptionError(f"timeout = {shown(timeout)}: {problem or f'should be above 0 and at most {LONGEST_TIMEOUT:,} seconds'}")


def _check_model(model: Any) -> None:
    if isinstance(model, SavedModel):
        return
    if isinstance(model, Artifact):
        raise UnsupportedModel(f"{model.name}: is a .tflite, so it is converted already; convert the model that it was made from")
    if not isinstance(model, backend.keras().Model):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise UnsupportedModel(f"a {kind} can't be converted: expected a tf_keras.Model, a Keras 3 model, or what tfopt.load gives")
    if not model.inputs:
        raise UnsupportedModel(
            f"{model.name}: the shape of its input is unknown; expected a functional or Sequential model that is built: "
            "start it with tf_keras.Input (a subclassed model has to be rewritten so)"
        )


def _converted(
    model: Any,
    what: str,
    examples: Mapping[str, np.ndarray] | None,
    specs: Sequence[Any],
    settings: Mapping[str, Any],
    timeout: float,
) -> bytes:
    with _lock:
        try:
            worker = _ready_worker()  # it imports TensorFlow while the model is written
            with tempfile.TemporaryDirectory(dir=worker.folder) as folder:
                request = _written(model, what, examples, specs, Path(folder))
                return _answer(worker, what, {**request, "settings": settings, "timeout": timeout})
        except OSError as error:
            raise ConversionError(f"{what}: temporary files can't be written ({error}); {_MORE_SPACE}") from error
        finally:
            _stop_if_dead()


def _written(model: Any, what: str, examples: Mapping[str, np.ndarray] | None, specs: Sequence[Any], folder: Path) -> dict[str, Any]:
    request = {"model": str(folder / "model"), "signature": None, "calibration": None, "result": str(folder / "result.tflite")}
    if examples is not None:
        request["calibration"] = {name: str(folder / f"calibration{number}.npy") for number, name in enumerate(examples)}
        for name, path in request["calibration"].items():
            np.save(path, examples[name])
    if isinstance(model, SavedModel):
        return {**request, "model": str(model.path), "signature": model.signature}
    try:
        _save_as_function(model, specs, request["model"])
    except OSError:
        raise
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        raise ConversionError(_message(what, "the model can't be written as a SavedModel", f"{type(error).__name__}: {error}")) from error
    return request


def _save_as_function(model: Any, specs: Sequence[Any], folder: str) -> None:
    """A SavedModel of one function and its variables. Saving the Keras model would trace every layer: 12 s for a MobileNetV2, not 3."""
    tf = backend.tensorflow()

    @tf.function(input_signature=specs, autograph=False)  # autograph would leave a .py file in the temporary folder
    def predict(*inputs):
        return model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)

    module = tf.Module()
    module.model_variables = model.variables
    with backend.log_without("Assets written"):  # in a notebook or at Python's prompt TensorFlow would tell it
        tf.saved_model.save(module, folder, signatures=predict)


def _answer(worker: Worker, what: str, request: Mapping[str, Any]) -> bytes:
    try:
        refusal = worker.ask(request, request["timeout"])["error"]
    except WorkerDied as death:
        raise ConversionError(_message(what, f"the converter {death.how}", death.output)) from None
    if refusal:
        raise ConversionError(_message(what, "the converter refused", refusal))
    return Path(request["result"]).read_bytes()


def _message(what: str, event: str, output: str) -> str:
    if "No space left on device" in output:
        hint = _MORE_SPACE
    elif "longer than" in event:
        hint = "give it more with timeout="
    else:
        hint = f"another format may work (there are: {', '.join(FORMATS)}), or other layers in place of what it names"
    reason = useful_lines(output)
    return f"{what}: {event}; {hint}" + (f"\n{reason}" if reason else "")


def useful_lines(output: str) -> str:
    """What a person can use of the converter's output: its last lines, each once, without MLIR's notes, places and dumps."""
    lines, dropping = [], False
    for line in output.replace("<unknown>:0:", "\n<unknown>:0:").splitlines():
        if _START.match(line):
            dropping = bool(_NOTE.match(line))
        if not dropping:
            lines.append(_PLACE.sub(r"\1: ", line).replace("<unknown>:0: ", "").strip()[:300])
    lines = [line for line in dict.fromkeys(lines) if line]
    return "\n".join(lines[-MOST_LINES:])[-LONGEST_REASON:]
