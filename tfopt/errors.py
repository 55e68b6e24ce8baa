"""What can go wrong, as a tree.

::

    TfoptError
     ├── RecipeError        a recipe that can't be read or does not say what it must
     ├── OptionError        an option of a function outside its type or range (also a ValueError)
     ├── DataError          data that is missing, corrupt, or does not fit what is asked of it
     ├── BridgeError        a Keras 3 model that does not come through unchanged
     ├── UnsupportedModel   a model of a kind that the asked-for work can't be done on
     ├── ConversionError    the converter refused, crashed or ran out of time
     ├── ArtifactError      a .tflite file that is damaged or can't be run
     ├── RunError           a run folder that is another recipe's, in use, or can't be written
     └── LimitError         a finished run that broke a limit of its recipe

A message says what happened, what was expected, and how to mend it; it names the file and key, or the layer.
The command line turns each into one sentence and an exit code: 2 for a bad recipe or option, 3 for a broken
limit, 1 for the rest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any


class TfoptError(Exception):
    """The parent of every error that tfopt raises on purpose."""


class RecipeError(TfoptError):
    """A recipe is wrong; `problems` holds everything that is wrong with it, a sentence each."""

    def __init__(self, source: str, problems: Sequence[str]):
        self.source = source
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            super().__init__(f"{source}: {self.problems[0]}")
        else:
            super().__init__(f"{source}: {len(self.problems)} problems\n" + "\n".join(f"  - {p}" for p in self.problems))


class OptionError(TfoptError, ValueError):
    """An option is of the wrong type or out of its range."""


class DataError(TfoptError):
    """Data is missing, corrupt, or does not fit the model or the task."""


class BridgeError(TfoptError):
    """A Keras 3 model does not come through the bridge unchanged."""


class UnsupportedModel(TfoptError):
    """A model is of a kind that the asked-for work can't be done on."""

    @classmethod
    def of(cls, technique: str, model: Any, choices: Iterable[Any]) -> UnsupportedModel:
        """The error of a technique that can treat no layer of a model, with the reason for each."""
        reasons = "; ".join(f"{choice.layer}: {choice.reason}" for choice in choices) or "it has none"
        return cls(f"{technique} can treat no layer of {model.name!r}: {reasons}")


class ConversionError(TfoptError):
    """The converter refused the model, crashed on it, or ran out of time."""


class ArtifactError(TfoptError):
    """A .tflite file is damaged, can't be run, or stands in the way of another."""


class RunError(TfoptError):
    """A run folder belongs to another recipe, is in use, or can't be written."""


class LimitError(TfoptError):
    """A finished run broke a limit; `broken` holds a sentence for each."""

    def __init__(self, broken: Sequence[str]):
        self.broken = tuple(broken)
        super().__init__("; ".join(self.broken))


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest right one, and all that there are.

    >>> nearest("digit", ["digits", "cifar10"])
    "did you mean 'digits'? (there are: cifar10, digits)"
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1)
    listing = f"there are: {', '.join(names)}" if names else "there are none"
    return f"did you mean {close[0]!r}? ({listing})" if close else listing


def said(error: BaseException) -> str:
    """What a library's error says in its first line, without the places in TensorFlow's graph; or its kind, where it says nothing.

    >>> said(OSError("{{node read}} disk full [Op:Read]\nmore"))
    'disk full'
    """
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines() if line.strip()]
    text = re.sub(r"Error in user-defined function .*? with iterator: \S+: |\{\{.*?\}\}\s*|\s*\[Op:.*", "", (lines or [""])[0])
    return text[:300].rstrip(".") or type(error).__name__


def shown(value: Any) -> str:
    """A value as a sentence may show it: on one line, without control characters, and never longer than 80 characters.

    >>> shown("two\\nlines")
    "'two\\\\nlines'"
    """
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an int of more than 4,300 digits has no repr
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def shown_key(key: str) -> str:
    """A key as a sentence may show it: bare where TOML lets it stand bare, otherwise quoted and cut as by `shown`."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else shown(key)
