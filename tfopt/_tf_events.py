"""A callback that writes what a fit shows into files that TensorBoard reads."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tf_keras.callbacks import Callback


class Events(Callback):
    """Writes the scalars of each epoch into `folder`/train and `folder`/validation, under the names that Keras's callback gives them.

    Keras's own (`tf_keras.callbacks.TensorBoard`) needs the package tensorboard to write; for this one only who looks needs it. A fit that
    goes on after an interruption goes on with the epochs' numbers, in a file of its own beside the first, as TensorBoard wants it.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        self.writers = {part: tf.summary.create_file_writer(str(self.folder / part)) for part in ("train", "validation")}

    def on_epoch_end(self, epoch, logs=None):
        for name, value in {**logs, "learning_rate": float(self.model.optimizer.learning_rate)}.items():
            part, name = ("validation", name.removeprefix("val_")) if name.startswith("val_") else ("train", name)
            with self.writers[part].as_default():
                tf.summary.write(f"epoch_{name}", tf.constant(value, tf.float32), epoch, _SCALAR)
        for writer in self.writers.values():
            writer.flush()

    def on_train_end(self, logs=None):
        for writer in self.writers.values():
            writer.close()


_SCALAR = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR")
