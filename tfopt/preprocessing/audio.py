"""Sound: features of waves for models, and random changes to training examples that leave their class as it is.

A wave is float32 (samples,) in -1..1, at `rate` samples a second. `log_mel` and `mfcc` make pictures (frames, bins, 1) of a batch of them,
with MLPerf Tiny's parameters for keyword spotting as defaults. All their shapes are static but for the batch's, and all their constants
are worked out beforehand, so that TFLite's builtin operations are enough for them.

`time_shift` and `background_noise` change waves, `spec_augment` changes features and so stands behind these in a list of steps.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import backend, options
from ..errors import DataError, OptionError
from . import _drawing, _wav

Whole = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
QUIET = 1e-6  # added before the logarithm, so that silence is a number


@options.checked
def log_mel(
    x: Any,
    *,
    rate: Whole = 16_000,
    window_ms: Positive = 30.0,
    stride_ms: Positive = 20.0,
    bins: Whole = 40,
    low_hz: Annotated[float, Field(ge=0)] = 20.0,
    high_hz: Positive = 4000.0,
) -> Any:
    """How loud each of `bins` bands of the mel scale is over time: (n, samples) -> (n, frames, bins, 1) float32.

    In windows of `window_ms`, one each `stride_ms`, weighted by Hann's function and filled up with zeros to a power of two samples, the
    absolute values of the Fourier transform; `bins` triangles of them, equally wide on the mel scale, that overlap by half between
    `low_hz` and `high_hz`; then the natural logarithm of each sum plus 1e-6. What is left behind the last whole window is not used.

    >>> log_mel(np.zeros((1, 16_000), np.float32)).shape
    TensorShape([1, 49, 40, 1])

    Raises:
      OptionError: the waves are shorter than a window; `high_hz` is above half the rate or not above `low_hz`.
    """
    return _picture(_log_mel(x, rate, window_ms, stride_ms, bins, low_hz, high_hz))


@options.checked
def mfcc(
    x: Any,
    *,
    rate: Whole = 16_000,
    window_ms: Positive = 30.0,
    stride_ms: Positive = 20.0,
    bins: Whole = 40,
    low_hz: Annotated[float, Field(ge=0)] = 20.0,
    high_hz: Positive = 4000.0,
    coefficients: Whole = 10,
) -> Any:
    """The first `coefficients` of the cosine transform (DCT-II) of each frame of `log_mel`: (n, samples) -> (n, frames, coefficients, 1).

    Scaled by 1 / sqrt(2 * bins), as by HTK and `tf.signal.mfccs_from_log_mel_spectrograms`. With the defaults, a second at 16 kHz becomes
    (49, 10, 1), which the DS-CNN of MLPerf Tiny takes.

    >>> mfcc(np.zeros((1, 16_000), np.float32)).shape
    TensorShape([1, 49, 10, 1])

    Raises:
      OptionError: as `log_mel`; more coefficients than bins.
    """
    if coefficients > bins:
        raise OptionError(f"coefficients = {coefficients}: should be at most bins = {bins}")
    tf = backend.tensorflow()
    return _picture(tf.matmul(_log_mel(x, rate, window_ms, stride_ms, bins, low_hz, high_hz), _cosines(bins, coefficients)))


def _log_mel(x: Any, rate: int, window_ms: float, stride_ms: float, bins: int, low_hz: float, high_hz: float) -> Any:
    """(n, frames, bins)"""
    tf = backend.tensorflow()
    x = tf.convert_to_tensor(x)
    window, stride = round(rate * window_ms / 1000), round(rate * stride_ms / 1000)
    _check(x, rate, window, stride, low_hz, high_hz)
    length = 1 << (window - 1).bit_length()  # the converter takes powers of two only
    frames = _frames(x, window, stride) * _hann(window)
    return tf.math.log(tf.matmul(tf.abs(tf.signal.rfft(frames, [length])), _triangles(bins, length, rate, low_hz, high_hz)) + QUIET)


def _check(x: Any, rate: int, window: int, stride: int, low_hz: float, high_hz: float) -> None:
    if len(x.shape) != 2 or not x.dtype.is_floating:
        raise OptionError(f"examples of shape {tuple(x.shape[1:])} and type {x.dtype.name}; should be waves, (samples,) of floats")
    if not 2 <= window <= x.shape[1] or not stride:
        raise OptionError(
            f"a window of {window} and a stride of {stride} samples on waves of {x.shape[1]}; should be at least 2 and 1 samples, and a "
            "window at most a wave: change window_ms, stride_ms or rate"
        )
    if not low_hz < high_hz <= rate / 2:
        raise OptionError(f"low_hz = {low_hz:g} and high_hz = {high_hz:g}: should be low_hz < high_hz <= rate / 2 = {rate / 2:g}")


def _frames(x: Any, window: int, stride: int) -> Any:
    """(n, samples) -> (n, frames, window): a gather of whole blocks, of which both a window and a stride are made, at known places."""
    tf = backend.tensorflow()
    block = math.gcd(window, stride)
    blocks = x.shape[1] // block
    starts = np.arange(0, blocks - window // block + 1, stride // block)
    places = (starts[:, np.newaxis] + np.arange(window // block)).astype(np.int32)
    return tf.reshape(tf.gather(tf.reshape(x[:, : blocks * block], [-1, blocks, block]), places, axis=1), [-1, len(starts), window])


def _picture(x: Any) -> Any:
    return backend.tensorflow().expand_dims(x, -1)


# Constants by TensorFlow's own functions, worked out once and outside of any graph: in one they would be a dozen operations.


@functools.cache
def _hann(window: int) -> np.ndarray:
    tf = backend.tensorflow()
    with tf.init_scope(), tf.device("CPU:0"):
        return tf.signal.hann_window(window).numpy()


@functools.cache
def _triangles(bins: int, length: int, rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """(length // 2 + 1, bins): the weight of each frequency in each bin."""
    tf = backend.tensorflow()
    with tf.init_scope(), tf.device("CPU:0"):
        return tf.signal.linear_to_mel_weight_matrix(bins, length // 2 + 1, rate, low_hz, high_hz).numpy()


@functools.cache
def _cosines(bins: int, coefficients: int) -> np.ndarray:
    """(bins, coefficients): the transform is linear, so what it makes of the unit vectors is all there is to know."""
    tf = backend.tensorflow()
    with tf.init_scope(), tf.device("CPU:0"):
        return tf.signal.mfccs_from_log_mel_spectrograms(tf.eye(bins)).numpy()[:, :coefficients]


@options.checked
def time_shift(x: Any, y: Any, seed: Any, *, max_ms: Positive = 100.0, rate: Whole = 16_000) -> tuple[Any, Any]:
    """Each wave moved by up to `max_ms`, forwards or back in time, silent where nothing is left of it: (n, samples) float32."""
    tf = backend.tensorflow()
    x = _waves(x, "time_shift")
    (count, samples), most = (tf.shape(x)[0], x.shape[1]), round(max_ms * rate / 1000)
    offsets = tf.random.stateless_uniform([count], seed, 0, 2 * most + 1, dtype=tf.int32)
    padded = tf.pad(x, [[0, 0], [most, most]])
    return _cuts(tf.reshape(padded, [-1]), tf.range(count) * (samples + 2 * most) + offsets, samples), y


@options.checked
def background_noise(
    x: Any,
    y: Any,
    seed: Any,
    *,
    min_snr: float = 5.0,
    max_snr: float = 30.0,
    share: Annotated[float, Field(gt=0, le=1)] = 0.8,
    color: Literal["white", "pink"] = "pink",
    folder: str | Path | None = None,
    rate: Whole = 16_000,
) -> tuple[Any, Any]:
    """Most waves with noise of their own added: (n, samples) float32, cut off at -1 and 1.

    min_snr, max_snr: between them the ratio of signal to noise is drawn, in dB: 10 * log10 of the wave's mean square to the noise's. A
      wave of silence stays one.
    share: how likely a wave gets noise at all. With 1 a model never hears a clean one, and may take one for something else.
    color: of the noise that is made where there is no `folder`: "white" has the same power at all frequencies, "pink" half of it an
      octave higher, as many natural sounds have.
    folder: of WAV files of noise, at any depth; each wave gets a random piece of one, all pieces being equally likely. They are read once,
      at `rate`, and kept in memory; a file shorter than a wave is repeated.

    Raises:
      OptionError: `min_snr` is above `max_snr`. DataError: `folder` holds no WAV file, or one that can't be read.
    """
    if min_snr > max_snr:
        raise OptionError(f"min_snr = {min_snr:g} and max_snr = {max_snr:g}: should be min_snr <= max_snr")
    tf = backend.tensorflow()
    x = _waves(x, "background_noise")
    which, ratio, whether = _drawing.split(seed, 3)
    noise = _made(x, which, color) if folder is None else _recorded(x, which, str(folder), rate)
    decibels = tf.random.stateless_uniform([tf.shape(x)[0], 1], ratio, min_snr, max_snr)
    power, of_noise = (tf.reduce_mean(tf.square(one), axis=1, keepdims=True) for one in (x, noise))
    gain = tf.sqrt(tf.math.divide_no_nan(power, of_noise) * 10.0 ** (-decibels / 10.0))
    noisy = tf.random.stateless_uniform([tf.shape(x)[0], 1], whether) < share
    return tf.where(noisy, tf.clip_by_value(x + gain * noise, -1.0, 1.0), x), y


@options.checked
def spec_augment(
    x: Any,
    y: Any,
    seed: Any,
    *,
    time_masks: Number = 1,
    time_width: Number = 10,
    frequency_masks: Number = 1,
    frequency_width: Number = 8,
) -> tuple[Any, Any]:
    """SpecAugment (Park et al. 2019, arXiv:1904.08779) without its time warping: (n, frames, bins, channels) float32, as of `log_mel`.

    In each example `time_masks` times up to `time_width` frames that follow each other, and `frequency_masks` times up to
    `frequency_width` bins, are replaced by the example's mean, which is what the paper's zeros are in its features of mean zero. All
    widths from 0, and all places, are equally likely.
    """
    tf = backend.tensorflow()
    x = tf.convert_to_tensor(x)
    if len(x.shape) != 4 or not x.dtype.is_floating:
        raise OptionError(f"spec_augment takes features (frames, bins, 1), not {tuple(x.shape[1:])} {x.dtype.name}; put it behind log_mel")
    in_time, in_frequency = _drawing.split(seed)
    masked = _masked(x, in_time, time_masks, time_width, axis=1) | _masked(x, in_frequency, frequency_masks, frequency_width, axis=2)
    return tf.where(masked, tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True), x), y


def _masked(x: Any, seed: Any, masks: int, width: int, axis: int) -> Any:
    """Which frames (axis 1) or bins (axis 2) are masked, as booleans that broadcast to x."""
    tf = backend.tensorflow()
    count, size = tf.shape(x)[0], x.shape[axis]
    widths, places = tf.unstack(tf.random.stateless_uniform([2, count, masks, 1], seed))
    widths = tf.floor(widths * (min(width, size) + 1))
    starts = tf.floor(places * (size - widths + 1))
    at = tf.range(size, dtype=tf.float32)
    inside = tf.reduce_any((at >= starts) & (at < starts + widths), axis=1)
    return tf.reshape(inside, [count, *(size if axis == other else 1 for other in (1, 2)), 1])


def _waves(x: Any, step: str) -> Any:
    x = backend.tensorflow().convert_to_tensor(x)
    if len(x.shape) != 2 or not x.dtype.is_floating:
        raise OptionError(f"{step} takes waves, (samples,) of floats, not {tuple(x.shape[1:])} {x.dtype.name}; put it before the features")
    return x


def _cuts(vector: Any, starts: Any, length: int) -> Any:
    """(n, length): the pieces of a vector that begin at each of `starts`."""
    tf = backend.tensorflow()
    return tf.gather(vector, starts[:, tf.newaxis] + tf.range(length))


def _made(x: Any, seed: Any, color: str) -> Any:
    tf = backend.tensorflow()
    white = tf.random.stateless_normal(tf.shape(x), seed)
    if color == "white":
        return white
    samples = x.shape[1]
    weights = 1 / np.sqrt(np.maximum(np.arange(samples // 2 + 1), 1))  # of amplitudes: power goes with 1 / frequency
    weights[0] = 0  # no constant offset
    return tf.signal.irfft(tf.signal.rfft(white) * weights.astype(np.complex64), [samples])


def _recorded(x: Any, seed: Any, folder: str, rate: int) -> Any:
    """A random piece of the files' sounds for each wave."""
    tf = backend.tensorflow()
    samples = x.shape[1]
    sounds = [np.tile(one, -(-samples // len(one))) if len(one) < samples else one for one in _noises(folder, rate)]
    lengths = np.array([len(one) for one in sounds])
    pieces = lengths - samples + 1  # how many there are in each, one after the other, so that a number says which and where
    last = np.cumsum(pieces)
    skipped = np.cumsum(lengths) - lengths - (last - pieces)
    number = tf.random.stateless_uniform([tf.shape(x)[0]], seed, 0, int(last[-1]), dtype=tf.int32)
    file = tf.searchsorted(last.astype(np.int32), number, side="right")
    return _cuts(np.concatenate(sounds), number + tf.gather(skipped.astype(np.int32), file), samples)


@functools.lru_cache(maxsize=4)
def _noises(folder: str, rate: int) -> tuple[np.ndarray, ...]:
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() == ".wav" and path.is_file())
    if not paths:
        raise DataError(f"background_noise: folder = {folder}: holds no .wav file; name a folder of recorded noise, or leave it out")
    return tuple(_noise(path, rate) for path in paths)


def _noise(path: Path, rate: int) -> np.ndarray:
    tf = backend.tensorflow()
    try:
        sound = _wav.inspect(path)
    except (OSError, ValueError) as error:
        raise DataError(f"background_noise: {path} {error}; repair it, or take it out of the folder") from error
    (row,) = [{name: values[0] for name, values in _wav.rows([path], [sound]).items()}]
    with tf.init_scope(), tf.device("CPU:0"):
        return _wav.reader([sound.kind], rate, max(1, sound.frames * rate // sound.kind.rate))(row).numpy()
