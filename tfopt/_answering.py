"""What happens to errors on the command line: one message on stderr and an exit code, for whatever a command raises."""

from __future__ import annotations

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable

import typer

from .errors import LimitError, OptionError, RecipeError, TfoptError


def answering(command: Callable) -> Callable:
    """Runs a command; turns what it raises into a message and an exit code."""

    @functools.wraps(command)
    def run(*args, **kwargs):
        try:
            command(*args, **kwargs)
            sys.stdout.flush()  # a full disk or a closed pipe shows here, where it can be answered
        except (Exception, KeyboardInterrupt) as error:
            if type(error).__module__.split(".")[0] in ("typer", "click"):  # typer's own, which it answers itself
                raise
            if os.environ.get("TFOPT_TRACEBACK") == "1":
                traceback.print_exc()
            reader_has_gone = _stdout_is_broken(error) and isinstance(error, BrokenPipeError)
            if not reader_has_gone:  # as in `tfopt list | head -1`, which wants no message
                print(f"tfopt: {_sentence(error)}", file=sys.stderr)
            raise typer.Exit(_exit_code(error)) from None

    return run


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, LimitError):
        return 3
    return 2 if isinstance(error, RecipeError | OptionError) else 1


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command continues where it stopped"
    if isinstance(error, LimitError):
        return f"the run is finished, but a limit is broken: {error}"
    if isinstance(error, TfoptError):
        return str(error)
    if isinstance(error, OSError):
        hints = {errno.ENOSPC: "; free some space", errno.EACCES: "; choose another place or change its permissions"}
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}{hints.get(error.errno, '')}"
    if isinstance(error, MemoryError):
        return "out of memory; a smaller batch_size or model needs less"
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return f"unexpected {type(error).__name__}: {first[:300]} (TFOPT_TRACEBACK=1 shows where it comes from)"


def _stdout_is_broken(error: BaseException) -> bool:
    """Whether stdout can't be written; then what is still buffered is thrown away, as it would fail again when Python ends."""
    try:
        print(end="\n" if isinstance(error, BrokenPipeError) else "", flush=True)  # an unbuffered pipe tells only when it is written to
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
