"""Zeros and shared values that a model brings along, kept while it trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from .. import training
from ..surgery import kernels
from ..surgery.kernels import Kernel
from ..teaching import Teaching
from ..types import Data, Fit
from . import _sharing

Preserve = Literal["auto", "zeros", "clusters", "nothing"]


class Kept:
    """What of some kernels is to be kept.

    Attributes:
      shared: id of a variable -> whether it shares values by channels, and these (`_sharing.found_in`).
    """

    def __init__(self, found: Iterable[Kernel], preserve: Preserve = "auto"):
        self.kernels = list(found)
        clusters, zeros = preserve in ("auto", "clusters"), preserve in ("auto", "zeros")
        self.shared: dict[int, tuple[bool, np.ndarray]] = {
            id(kernel.variable): found for kernel in self.kernels if clusters and (found := _sharing.found_in(kernel)) is not None
        }
        self._sparse = [k.variable for k in self.kernels if zeros and id(k.variable) not in self.shared and not k.matrix().all()]

    def callbacks(self) -> list[Any]:
        """The callbacks of a fit that keep it."""
        from . import _tf_weights

        shared = [(kernel, *self.shared[id(kernel.variable)]) for kernel in self.kernels if id(kernel.variable) in self.shared]
        rows = [_tf_weights.Shared(kernel.variable, *_sharing.layout(kernel, by_channel), values) for kernel, by_channel, values in shared]
        return [_tf_weights.Masking(self._sparse), _tf_weights.Sharing(rows)]


def kept_beside(treated: Iterable[Kernel], all_kernels: Iterable[Kernel]) -> list[Any]:
    """The callbacks that keep what the kernels beside the treated ones hold."""
    ids = {id(kernel.variable) for kernel in treated}
    return Kept(kernel for kernel in all_kernels if id(kernel.variable) not in ids).callbacks()


def fit_keeping(model: Any, data: Data, fit: Fit, *, name: str, teaching: Teaching | None, callbacks: Sequence[Any] = ()) -> None:
    """Trains a model in place and keeps zeros and shared values that earlier steps have left; `callbacks` come after those that do."""
    kept = Kept(kernels.of_all(model.layers)).callbacks()
    training.fit_in_place(model, data, fit, name=name, callbacks=[*kept, *callbacks], teaching=teaching)
