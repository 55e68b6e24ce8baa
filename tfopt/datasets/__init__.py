"""Where data comes from: one function per source, each returning a `Data`.

    data = tfopt.datasets.digits()

`DATASETS` is what a recipe's `[data] use = "..."` names; the keyword-only parameters of each function are its options.
"""

from __future__ import annotations

from ..types import Call
from ._audio import audio_folder
from ._cifar import cifar10
from ._coco import coco
from ._csv import csv
from ._digits import digits
from ._fashion import fashion_mnist
from ._idx import idx
from ._image_masks import image_masks
from ._images import image_folder
from ._lines import text_lines
from ._memory import arrays
from ._pairs import number_words, text_pairs
from ._series import time_series
from ._text import text_file, text_folder
from ._tfds_source import tfds
from ._tfrecord import tfrecord
from ._transcripts import audio_transcripts
from ._voc import voc
from ._wrap import wrap

DATASETS = {
    "arrays": arrays,
    "audio_folder": audio_folder,
    "audio_transcripts": audio_transcripts,
    "cifar10": cifar10,
    "coco": coco,
    "csv": csv,
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "idx": idx,
    "image_folder": image_folder,
    "image_masks": image_masks,
    "number_words": number_words,
    "text_file": text_file,
    "text_folder": text_folder,
    "text_lines": text_lines,
    "text_pairs": text_pairs,
    "tfds": tfds,
    "tfrecord": tfrecord,
    "time_series": time_series,
    "voc": voc,
    "wrap": wrap,
}

_OF_ONE_TASK = {"text_lines": "generation"}  # whose score may be above 1, as none of the other sources' own


def own_task(call: Call) -> str | None:
    """The task that a call's data is for, where the call says it."""
    return call.options.get("task") or _OF_ONE_TASK.get(call.use)


__all__ = ["DATASETS", *DATASETS]
