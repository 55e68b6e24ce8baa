"""WAV files: what their headers say, in Python, and their samples, in TensorFlow's operations.

A header is read once, when the files are listed; it says whether the file is whole and where its samples are. What is read again and
again, the samples, is then a matter of a few operations, which any worker of a pipeline can do.
"""

from __future__ import annotations

import functools
import importlib
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend

EXTENSIBLE, TO_THE_END = 0xFFFE, 0xFFFF_FFFF
RATES = range(100, 1_000_001)  # samples a second; others are a damaged header's

# (format tag, bytes a sample) -> its name here
ENCODINGS = {(1, 1): "uint8", (1, 2): "int16", (1, 3): "int24", (1, 4): "int32", (3, 4): "float32", (3, 8): "float64"}
OTHERS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x31: "GSM", 0x55: "MP3"}
SCALES = {"int16": 2.0**-15, "int24": 2.0**-31, "int32": 2.0**-31, "float32": 1.0, "float64": 1.0}


@dataclass(frozen=True)
class Kind:
    """How samples are written: one of the names in ENCODINGS, how many channels there are, and samples a second of each."""

    encoding: str
    channels: int
    rate: int

    @property
    def width(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * next(width for (_, width), name in ENCODINGS.items() if name == self.encoding)


@dataclass(frozen=True)
class Sound:
    """What a file holds: its kind, at which byte its samples begin, and how many there are of each channel."""

    kind: Kind
    start: int
    frames: int


def inspect(path: str | Path) -> Sound:
    """What a WAV file holds.

    Raises:
      ValueError: it is none, not whole, or written in a way that is not read here: half a sentence. OSError: it can't be opened.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if not head:
            raise ValueError("is empty")
        if head[:4] in (b"RIFX", b"RF64"):
            raise ValueError(f"is a WAV file of the rare form {head[:4].decode()}; save it as an ordinary one")
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            raise ValueError("is no WAV file, whatever its name says")
        kind = None
        while len(chunk := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            start = file.tell()
            if name == b"data":
                sound = Sound(_given(kind), start, _frames(kind, length, size - start))
                return _without_nan(file, sound)
            if name == b"fmt ":
                kind = _kind(file.read(min(length, 40)))
            file.seek(start + length + length % 2)  # chunks begin at even places
    raise ValueError("is cut off before its samples begin")


def _kind(content: bytes) -> Kind:
    if len(content) < 16:
        raise ValueError("is cut off in its header")
    tag, channels, rate, _, width, bits = struct.unpack("<HHIIHH", content[:16])
    if tag == EXTENSIBLE and len(content) >= 26:
        (tag,) = struct.unpack("<H", content[24:26])
    if tag not in (1, 3):
        raise ValueError(f"is written in {OTHERS.get(tag, f'the format {tag}')}; save it as PCM, such as 16-bit WAV")
    if not channels or width % channels or (tag, width // channels) not in ENCODINGS or not 0 <= 8 * width // channels - bits < 8:
        raise ValueError(f"says that it has {bits} bits a sample and {channels} channels in {width} bytes; 8, 16, 24 or 32 bits are read")
    if rate not in RATES:
        raise ValueError(f"says that it has {rate:,} samples a second")
    return Kind(ENCODINGS[tag, width // channels], channels, rate)


def _given(kind: Kind | None) -> Kind:
    if kind is None:
        raise ValueError("does not say how its samples are written (no chunk 'fmt ' before them)")
    return kind


def _frames(kind: Kind, length: int, there: int) -> int:
    length = there if length == TO_THE_END else length  # what a program writes that did not know how long it would become
    if length > there:
        raise ValueError(f"is cut off: holds {there:,} of the {length:,} bytes of samples that it should")
    if length < kind.width:
        raise ValueError("holds no samples")
    return length // kind.width


def _without_nan(file: Any, sound: Sound) -> Sound:
    if sound.kind.encoding.startswith("float"):
        file.seek(sound.start)
        samples = np.frombuffer(file.read(sound.frames * sound.kind.width), np.dtype(sound.kind.encoding).newbyteorder("<"))
        if not np.isfinite(samples).all():
            raise ValueError("holds NaN or infinity")
    return sound


def rows(paths: Sequence[str | Path], sounds: Sequence[Sound]) -> dict[str, np.ndarray]:
    """What `reader` asks to know of each file, as arrays (n,)."""
    kinds = kinds_of(sounds)
    return {
        "path": np.array([os.fsencode(path) for path in paths], object),
        "start": np.array([sound.start for sound in sounds], np.int64),
        "frames": np.array([sound.frames for sound in sounds], np.int64),
        "kind": np.array([kinds.index(sound.kind) for sound in sounds], np.int32),
    }


def kinds_of(sounds: Sequence[Sound]) -> tuple[Kind, ...]:
    """The kinds that there are, each once."""
    return tuple(dict.fromkeys(sound.kind for sound in sounds))


def reader(kinds: Sequence[Kind], rate: int, samples: int) -> Callable[[Any], Any]:
    """A function that reads one of the `rows` of files of these kinds as a wave, float32 (samples,) at `rate` samples a second.

    Integers come out in -1..1, floats as they are; channels as their mean; resampled as `scipy.signal.resample_poly` does it, by the
    nearest ratio with a denominator up to 1,000; what is longer than `samples` is cut off at its end, what is shorter is filled up
    with zeros.
    """

    def read(row: Any) -> Any:
        tf = backend.tensorflow()
        content = tf.io.read_file(row["path"])
        branches = [functools.partial(_wave, kind, content, row["start"], row["frames"], rate, samples) for kind in kinds]
        return branches[0]() if len(branches) == 1 else tf.switch_case(row["kind"], branches)

    return read


def ratio(kind: Kind, rate: int) -> tuple[int, int]:
    """How many samples at `rate` so many samples of a kind become: (up, down)."""
    found = Fraction(rate, kind.rate).limit_denominator(1000)
    return found.numerator, found.denominator


def _wave(kind: Kind, content: Any, start: Any, frames: Any, rate: int, samples: int) -> Any:
    tf = backend.tensorflow()
    up, down = ratio(kind, rate)
    resample = None if up == down else _resampling(up, down)
    blocks, before, needed = -(-samples // up), 0, samples
    if resample is not None:
        before, needed = -(-_reach(up, down) // up), (blocks - 1) * down + len(resample)
    used = tf.minimum(frames, needed - before)
    wave = _mono(kind, tf.strings.substr(content, start, used * kind.width))
    wave = tf.ensure_shape(tf.pad(wave, [[tf.constant(before, tf.int64), needed - before - used]]), [needed])
    if resample is None:
        return wave
    wave = tf.reshape(tf.nn.conv1d(wave[tf.newaxis, :, tf.newaxis], resample[:, np.newaxis], down, "VALID"), [blocks * up])[:samples]
    sounding = (frames * up + down - 1) // down  # behind that the filter still rings, and resample_poly has stopped
    return tf.where(tf.range(samples, dtype=tf.int64) < sounding, wave, 0.0)


def _mono(kind: Kind, data: Any) -> Any:
    tf = backend.tensorflow()
    if kind.encoding == "uint8":
        values = (tf.cast(tf.io.decode_raw(data, tf.uint8), tf.float32) - 128.0) * 2.0**-7
    elif kind.encoding == "int24":  # the upper three bytes of an int32
        upper = tf.reshape(tf.io.decode_raw(data, tf.uint8), [-1, 3])
        values = tf.bitcast(tf.concat([tf.zeros_like(upper[:, :1]), upper], axis=1), tf.int32)
    else:
        values = tf.io.decode_raw(data, kind.encoding)
    values = tf.cast(values, tf.float32) * SCALES.get(kind.encoding, 1.0)
    return values if kind.channels == 1 else tf.reduce_mean(tf.reshape(values, [-1, kind.channels]), axis=1)


def _reach(up: int, down: int) -> int:
    """Half the length of the filter of `scipy.signal.resample_poly`, in samples of `up` times the rate."""
    return 10 * max(up, down)


@functools.cache
def _resampling(up: int, down: int) -> np.ndarray:
    """(width, up): what each of `up` samples that follow each other is made of.

    The next `up` are made in the same way of what stands `down` samples further on: a convolution with stride `down` and `up` channels.
    """
    signal, reach = importlib.import_module("scipy.signal"), _reach(up, down)
    filter_ = signal.firwin(2 * reach + 1, 1 / max(up, down), window=("kaiser", 5.0)) * up
    before = -(-reach // up)
    width = (up - 1) * down // up + 2 * before + 1
    places = np.arange(up) * down - (np.arange(width)[:, np.newaxis] - before) * up + reach
    inside = (places >= 0) & (places < len(filter_))
    return np.where(inside, filter_[np.clip(places, 0, len(filter_) - 1)], 0).astype(np.float32)
