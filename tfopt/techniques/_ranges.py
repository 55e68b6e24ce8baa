"""The factors that bring the ranges of channels together: as large in the weights that make a channel as in those that read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..surgery.factors import Factors, Place

_SWEEPS, _SETTLED = 200, 0.01  # at most; the largest logarithm of a factor after which another sweep changes nothing that matters


@dataclass(frozen=True, eq=False)
class _Sizes:
    """ln |w| of a kernel, the largest along axes on which no channel changes; and the channels of each."""

    logs: np.ndarray
    makes: np.ndarray
    reads: np.ndarray

    @classmethod
    def of(cls, place: Place, factors: Factors) -> _Sizes:
        weights = np.abs(place.variable.numpy().astype("float32"))
        weights = weights.max(axis=tuple(range(weights.ndim - 2)))
        with np.errstate(divide="ignore"):
            return cls(np.log(weights), *(np.atleast_2d(factors.of(ids)) for ids in (place.makes, place.reads)))


def equalizing(factors: Factors) -> np.ndarray:
    """By a channel's number the factor for the weights that make it: 1 where there is none that would change nothing.

    With r1 and r2 the largest |w| of those that make a channel and of those that read it, the factor sqrt(r2 / r1) makes both sqrt(r1 r2).
    That changes what the channels before and behind find, so it is done again until nothing changes any more.
    """
    kernels = [_Sizes.of(place, factors) for place in factors.places.values() if place.variable.shape.rank > 1]
    free, found = factors.free(), np.zeros(factors.count)
    for _ in range(_SWEEPS):
        made, read = np.full((2, len(found)), -np.inf)
        for kernel in kernels:
            now = kernel.logs + found[kernel.makes] - found[kernel.reads]
            _raise(made, kernel.makes, now)
            _raise(read, kernel.reads, now)
        known = free & np.isfinite(made) & np.isfinite(read)
        step = np.where(known, np.where(known, read, 0) - np.where(known, made, 0), 0) / 2
        found += step
        if np.abs(step).max(initial=0) < _SETTLED:
            break
    return np.exp(found)


def _raise(largest: np.ndarray, ids: np.ndarray, sizes: np.ndarray) -> None:
    """Raises what is known of each channel to the sizes that are larger."""
    along = tuple(axis for axis, size in enumerate(ids.shape) if size == 1)
    np.maximum.at(largest, ids, sizes.max(axis=along, keepdims=True))
