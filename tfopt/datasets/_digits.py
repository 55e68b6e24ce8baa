"""The digits that come with scikit-learn: real, small, and there without a network."""

from __future__ import annotations

import numpy as np

from .. import backend, options
from ..types import Data
from . import _building
from ._building import Count, Preprocess, Seed, Share


@options.checked
def digits(*, seed: Seed = 0, validation: Share = 0.15, test: Share = 0.2, calibration: Count = 200, preprocess: Preprocess = ()) -> Data:
    """1,797 scanned handwritten digits, 8x8 grey pixels (scikit-learn's bundled part of UCI's "Optical Recognition" set).

    x: (8, 8, 1) float32 in 0..1. The split is stratified and follows from `seed`; `validation` and `test` are shares of the whole.
    `calibration`: how many training examples to draw for it (at most all).

    >>> tfopt.datasets.digits().input_shape
    (8, 8, 1)
    """
    bundle = backend.sklearn("datasets").load_digits()
    x = (bundle.images[..., np.newaxis] / 16).astype(np.float32)
    x, y = _building.check_examples(x, bundle.target, 10)
    parts = _building.split(x, y, validation=validation, test=test, seed=seed, source="digits")
    return _building.build(
        "digits", parts, classes=[str(digit) for digit in range(10)], seed=seed, calibration=calibration, preprocess=preprocess
    )
