"""What is found, as pictures."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any

from .. import _pictures

_MARK = "tfopt plot"


class Plotted(abc.ABC):
    """A result that is looked at as a picture."""

    @abc.abstractmethod
    def plot(self) -> Any:
        """A matplotlib Figure, made without pyplot; a notebook shows it."""

    def save(self, path: str | Path) -> Path:
        """Writes the plot as a .png or .svg file and returns its path. An older plot there is replaced, any other file is not.

        Raises:
          ArtifactError: another ending, another file stands there, or it can't be written.
        """
        title = type(self).__name__
        return _pictures.save(
            path, lambda kind: _pictures.encoded(self.plot(), kind, mark=_MARK, title=title), mark=_MARK, endings=(".png", ".svg")
        )


def axes_of(figure: Any, x_label: str, y_label: str) -> Any:
    """The axes of a plot with one."""
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return axes
