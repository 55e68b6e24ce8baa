"""The parent's side of the converter's process (`tfopt._convert`): starts it, asks it, kills it, and cleans up after it.

One warm process serves all conversions, because importing TensorFlow costs it four seconds. It is a plain subprocess, not one of
multiprocessing's, which would run a user's unguarded script again.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LAST_CHARACTERS = 20_000  # of stderr that are read back


class WorkerDied(Exception):
    """The process ended, or was ended, before it answered: `how`, and what it had written to stderr since it was asked."""

    def __init__(self, how: str, output: str):
        super().__init__(how)
        self.how = how
        self.output = output


class Worker:
    """One converter process and the temporary folder that it works in.

    Raises:
      OSError: no temporary folder can be made, or no process started.
    """

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="tfopt-convert-"))
        try:
            self._errors = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 (lives as long as the process)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tfopt._convert", str(os.getpid()), str(self.folder)],  # -P: no module of the user's folder
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=_environment(self.folder),
                start_new_session=True,  # Ctrl-C is for the parent, which then decides
            )
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def alive(self) -> bool:
        """Whether it can be asked: the process runs, and nobody has cleaned its folder away."""
        return self._process.poll() is None and self.folder.is_dir()

    def ask(self, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """Sends a request and waits for its answer. After anything but an answer the worker is stopped.

        Raises:
          WorkerDied: it crashed, or needed more than `timeout` seconds.
        """
        written = os.fstat(self._errors.fileno()).st_size
        try:
            return json.loads(self._exchange(json.dumps(request).encode() + b"\n", timeout))
        except TimeoutError:
            self._end()
            raise WorkerDied(f"took longer than {timeout:g} seconds and was stopped", self._said_since(written)) from None
        except EOFError:
            raise WorkerDied(f"crashed ({_ending(self._process.wait())})", self._said_since(written)) from None
        except BaseException:  # Ctrl-C: the answer would come to the next request
            self._end()
            raise

    def _exchange(self, line: bytes, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EOFError from None
        answer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                piece = os.read(self._process.stdout.fileno(), 65536)
                if not piece:
                    raise EOFError
                answer += piece
        return answer

    def _said_since(self, offset: int) -> str:
        file = self._errors.fileno()  # read with pread: a seek would move the place where the child writes on
        offset = max(offset, os.fstat(file).st_size - LAST_CHARACTERS)
        return os.pread(file, LAST_CHARACTERS, offset).decode(errors="replace")

    def stop(self) -> None:
        """Ends the process and removes its folder."""
        self._end()
        for pipe in (self._process.stdout, self._errors):
            pipe.close()
        with contextlib.suppress(BrokenPipeError):  # what was not yet sent has no reader any more
            self._process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()


def _environment(folder: Path) -> dict[str, str]:
    home = str(Path(__file__).resolve().parent.parent)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")])),
        "PYTHONHASHSEED": "0",  # the same bytes from every process
        "TMPDIR": str(folder),  # what the converter leaves there when it crashes goes with the folder
        "CUDA_VISIBLE_DEVICES": "-1",  # conversion needs no GPU, and the parent wants all its memory
    }


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
