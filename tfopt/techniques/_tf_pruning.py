"""The callback of pruning."""

from __future__ import annotations

from .. import backend


class Remask(backend.tfmot().sparsity.keras.UpdatePruningStep):
    """TF-MOT's callback, which also masks before validation.

    By itself it masks at an epoch's end only, after Keras has validated weights to which the last step gave small values where
    zeros belong.
    """

    def on_test_begin(self, logs=None):
        self.on_epoch_end(None)
