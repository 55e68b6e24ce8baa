"""The converter's own process: `python -m tfopt._convert PARENT FOLDER`, started and fed by `tfopt._worker`, never by hand.

The TFLite converter can end the process that it runs in (int8 of a GRU: segmentation fault), so it gets one of its own. Requests come
as JSON lines on stdin, an answer to each goes as a JSON line to stdout. Models, calibration and results are files in FOLDER.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import backend

LONGEST_ERROR = 20_000  # characters; MLIR writes tens of thousands more, which say the same again
GRACE_SECONDS = 30


def main(parent: int, folder: str) -> None:
    """Answers requests until stdin ends, the parent is gone, or a conversion runs far over its time."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what TensorFlow prints on stdout is chatter; answers have their own copy of the pipe
    threading.Thread(target=_leave_with, args=(parent, folder), daemon=True).start()
    tf = backend.tensorflow()
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(int(request["timeout"]) + GRACE_SECONDS)  # ends the process even where the converter never gives Python a turn
        try:
            result = _convert(tf, request["model"], request["signature"], request["calibration"], request["settings"])
            Path(request["result"]).write_bytes(result)
            answer = {"error": None}
        except Exception as error:  # whatever it is, the parent has to hear it
            answer = {"error": f"{type(error).__name__}: {error}"[-LONGEST_ERROR:]}
        signal.alarm(0)
        print(json.dumps(answer), file=answers, flush=True)
    _leave(folder)


def _leave_with(parent: int, folder: str) -> None:
    """Ends this process, and removes its folder, once the parent is gone: by kill -9, too, and in the middle of a conversion.

    The end of stdin would be seen only between conversions. Linux's PR_SET_PDEATHSIG fires when the *thread* that started the child
    ends. A look four times a second costs nothing and comes through: the converter of TensorFlow 2.21 lets other Python threads run,
    with gaps of 2 s at most on a MobileNetV2.
    """
    while os.getppid() == parent:
        time.sleep(0.25)
    _leave(folder)


def _leave(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # at once: nobody waits for TensorFlow to tidy up


def _convert(tf: Any, model: str, signature: str | None, calibration: Mapping[str, str] | None, settings: Mapping[str, Any]) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(model, signature_keys=signature and [signature])
    if settings["optimize"]:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if settings["float16"]:
        converter.target_spec.supported_types = [tf.float16]
    if settings["io"]:
        input_type, output_type = map(tf.dtypes.as_dtype, settings["io"])
        converter.inference_input_type, converter.inference_output_type = input_type, output_type
    if calibration:  # a quantization-aware model brings its ranges with it
        examples = {name: np.load(path) for name, path in calibration.items()}
        converter.representative_dataset = lambda: _singly(examples)
        # with plain TFLITE_BUILTINS as the second choice an operation without an int8 kernel stays float instead of ending everything
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def _singly(examples: Mapping[str, np.ndarray]) -> Iterator[list[np.ndarray] | dict[str, np.ndarray]]:
    """Batches of one example; of several inputs by name, because the file has them in an order of its own."""
    for index in range(len(next(iter(examples.values())))):
        example = {name: array[index : index + 1] for name, array in examples.items()}
        yield example if len(example) > 1 else list(example.values())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
