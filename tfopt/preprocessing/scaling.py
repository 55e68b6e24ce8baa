"""Values brought to a scale: each function takes and returns a batch (n, ...), and a deployed app has to repeat it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, options


@options.checked
def rescale(x: Any, *, scale: float = 1 / 255, offset: float = 0.0) -> Any:
    """`scale * x + offset` as float32; by default bytes 0..255 come out as 0..1.

    x: a batch, or a dict of batches by input name, of which those that hold bytes are rescaled and the others left as they are.
    """
    if isinstance(x, dict):
        tf = backend.tensorflow()
        return {name: rescale(one, scale=scale, offset=offset) if one.dtype == tf.uint8 else one for name, one in x.items()}
    tf = backend.tensorflow()
    # Multiplied, not divided: TensorFlow's graph optimizer rewrites a division into this in some graphs and not in others.
    return tf.cast(x, tf.float32) * np.float32(scale) + np.float32(offset)
