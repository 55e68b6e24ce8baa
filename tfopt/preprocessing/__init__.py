"""What is done to examples between the file and the model: an ordered list of steps, each a function on a batch of tensors.

A step is a `Call` by a name of the two tables below. The *preparations* are what a deployed app has to repeat: they are applied to all
examples, in training and after. The *augmentations* change training examples at random and are applied to nothing else, wherever in the
list they stand: noise before the spectrogram, say, and SpecAugment behind it. The keyword-only parameters of each function are its options.

    steps = calls(["background_noise", "log_mel", {"use": "z_score", "per": "feature"}, "spec_augment"])

A preparation may need statistics of the training set, such as a mean. They are options of it like others, and `learned` fills in those that
are not given, so that a list of steps is all there is to know: it can be written down as JSON and applied anywhere.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import backend, options
from ..errors import DataError, OptionError, nearest, said, shown
from ..types import Call
from . import audio, augmenting, cleaning, colors, contrast, filtering, jittering, mixing, policies, projecting, scaling, tables, text

# (x) -> x: x a batch (n, ...), float32 unless the function says otherwise, as is what it returns
PREPARATIONS: dict[str, Callable[..., Any]] = {
    "binarize": scaling.binarize,
    "center_crop": augmenting.center_crop,
    "contrast_stretch": contrast.contrast_stretch,
    "encode_columns": tables.encode_columns,
    "fill_missing": cleaning.fill_missing,
    "gaussian_filter": filtering.gaussian_filter,
    "gray_to_rgb": colors.gray_to_rgb,
    "histogram_equalization": contrast.histogram_equalization,
    "hsv_to_rgb": colors.hsv_to_rgb,
    "interpolate_missing": cleaning.interpolate_missing,
    "l1_normalize": scaling.l1_normalize,
    "l2_normalize": scaling.l2_normalize,
    "lab_to_rgb": colors.lab_to_rgb,
    "log_mel": audio.log_mel,
    "mean_filter": filtering.mean_filter,
    "median_filter": filtering.median_filter,
    "mfcc": audio.mfcc,
    "min_max": scaling.min_max,
    "non_local_means": filtering.non_local_means,
    "one_hot": scaling.one_hot,
    "pca": projecting.pca,
    "rescale": scaling.rescale,
    "rgb_to_gray": colors.rgb_to_gray,
    "rgb_to_hsv": colors.rgb_to_hsv,
    "rgb_to_lab": colors.rgb_to_lab,
    "rgb_to_yiq": colors.rgb_to_yiq,
    "rgb_to_yuv": colors.rgb_to_yuv,
    "whiten": projecting.whiten,
    "yiq_to_rgb": colors.yiq_to_rgb,
    "yuv_to_rgb": colors.yuv_to_rgb,
    "z_score": scaling.z_score,
}

# of some preparations: (x, **options) -> the options with the statistics of x filled in; x is a numpy array of training examples (n, ...)
LEARNERS: dict[str, Callable[..., dict[str, Any]]] = {
    "fill_missing": cleaning.learn_fill_missing,
    "min_max": scaling.learn_min_max,
    "one_hot": scaling.learn_one_hot,
    "pca": projecting.learn_pca,
    "whiten": projecting.learn_whiten,
    "z_score": scaling.learn_z_score,
}

# (x, y, seed) -> (x, y): a batch of training examples and their labels, and an int32 seed of shape (2,)
AUGMENTATIONS: dict[str, Callable[..., Any]] = {
    "aug_mix": policies.aug_mix,
    "background_noise": audio.background_noise,
    "brightness": jittering.brightness,
    "contrast": jittering.contrast,
    "cutmix": mixing.cutmix,
    "cutout": jittering.cutout,
    "gaussian_blur": jittering.gaussian_blur,
    "gaussian_noise": jittering.gaussian_noise,
    "grayscale": jittering.grayscale,
    "hue": jittering.hue,
    "mixup": mixing.mixup,
    "pad_and_crop": augmenting.pad_and_crop,
    "rand_augment": policies.rand_augment,
    "random_crop": augmenting.random_crop,
    "random_flip": augmenting.random_flip,
    "resized_crop": augmenting.resized_crop,
    "rotation": augmenting.rotation,
    "saturation": jittering.saturation,
    "shear": augmenting.shear,
    "spec_augment": audio.spec_augment,
    "time_shift": audio.time_shift,
    "token_dropout": text.token_dropout,
    "translation": augmenting.translation,
    "zoom": augmenting.zoom,
}

# of those, which cut their result off at 0 and 1
OF_UNIT_RANGE = frozenset(
    {"aug_mix", "brightness", "contrast", "gaussian_blur", "gaussian_noise", "grayscale", "hue", "rand_augment", "saturation"}
)

STEPS = {**PREPARATIONS, **AUGMENTATIONS}
_BATCH = 512

# (x, y) -> which rows stay; numpy arrays, before anything is made a step of. Not part of STEPS: an app cleans nothing
CLEANERS: dict[str, Callable[..., Any]] = {
    "drop_duplicates": cleaning.drop_duplicates,
    "drop_missing": cleaning.drop_missing,
    "drop_outliers": cleaning.drop_outliers,
}
# of those, which look at training examples only: the others have to be judged as they come
OF_TRAINING = frozenset({"drop_outliers"})


def check(steps: Sequence[Any]) -> Sequence[Any]:
    """The steps again.

    Raises:
      ValueError: an unknown name or option, or a value that is wrong.
    """
    return _checked(steps, STEPS)


def check_cleaners(clean: Sequence[Any]) -> Sequence[Any]:
    """The same of cleaners."""
    return _checked(clean, CLEANERS)


def _checked(steps: Sequence[Any], table: Mapping[str, Callable[..., Any]]) -> Sequence[Any]:
    problems = [problem for number, step in enumerate(steps) for problem in _problems(step, number, table)]
    if problems:
        raise ValueError("; ".join(problems))
    return steps


def _problems(step: Any, number: int, table: Mapping[str, Callable[..., Any]]) -> list[str]:
    where = f"step {number}"
    if not isinstance(step, str | Mapping) or (isinstance(step, Mapping) and not isinstance(step.get("use"), str)):
        example = "random_flip" if table is STEPS else "drop_outliers"
        return [f'{where} is {shown(step)}; should be a name, or a table like {{ use = "{example}" }}']
    name, given = (step, {}) if isinstance(step, str) else (step["use"], {key: value for key, value in step.items() if key != "use"})
    if name not in table:
        return [f"{where} is {shown(name)}, which there is not; {nearest(name, table)}"]
    return [f"{where} ({name}): {problem}" for problem in options.problems_with(table[name], given)]


def calls(steps: Sequence[Any]) -> tuple[Call, ...]:
    """Steps as a recipe has them, a name or a table with `use` each, as calls.

    Raises:
      OptionError: see `check`.
    """
    try:
        check(steps)
    except ValueError as error:
        raise OptionError(f"preprocess: {error}") from None
    return tuple(map(_call, steps))


def cleaners(clean: Sequence[Any]) -> tuple[Call, ...]:
    """The same of cleaners."""
    try:
        check_cleaners(clean)
    except ValueError as error:
        raise OptionError(f"clean: {error}") from None
    return tuple(map(_call, clean))


def takes_missing(steps: Sequence[Call]) -> bool:
    """Whether NaN among the raw examples is filled in before any step that it would spoil."""
    first = next((step.use for step in steps if step.use not in ("rescale", "encode_columns")), None)
    return first in ("fill_missing", "interpolate_missing")


def _call(step: str | Mapping[str, Any]) -> Call:
    if isinstance(step, str):
        return Call(step)
    return Call(step["use"], {key: value for key, value in step.items() if key != "use"})


def applied(x: Any, y: Any, steps: Sequence[Call], seed: Any = None) -> tuple[Any, Any]:
    """A batch with all steps done, in their order; without a `seed` the augmentations are left out."""
    tf = backend.tensorflow()
    numbered = [(number, step) for number, step in enumerate(steps) if seed is not None or not is_augmentation(step)]
    runs = _runs(numbered, x, y)
    for run, following in itertools.zip_longest(runs, runs[1:]):
        number, step = run[0]
        function = tf.autograph.experimental.do_not_convert(STEPS[step.use])  # they are operations already, and so are built faster
        if not any(is_augmentation(one) for _, one in run):
            before, x = x, function(x, **step.options)
            y = augmenting.labels_of_middle(before, y, **step.options) if step.use == "center_crop" else y
            continue
        own = tf.random.experimental.stateless_fold_in(seed, number)
        together = [(one.use, one.options) for _, one in run]
        if _are_one(run, augmenting):
            x, y = augmenting.moved(x, y, own, together, floats=following is not None and following[0][1].use == "rescale")
        elif len(run) > 1:
            x, y = jittering.recolored(x, y, own, together)
        else:
            x, y = function(x, y, own, **step.options)
    return x, y


_Numbered = tuple[int, Call]


def _runs(steps: list[_Numbered], x: Any, y: Any) -> list[list[_Numbered]]:
    """The steps in the order in which they are done, those together that are one operation: moves of whole pixels, changes of colors.

    Bytes are moved before they become floats: they are a quarter as large. Boxes are moved step by step: each looks at what is left.
    """
    runs = [[step] for step in steps]
    if isinstance(x, dict) or isinstance(y, dict):
        return runs
    runs = _joined(runs)
    if x.dtype == "uint8" and len(runs) > 1 and _are_one(runs[1], augmenting):
        (_, first), *_ = runs[0]
        if first.use == "rescale" and not first.options.get("offset"):  # with one, black from outside would be another number
            runs[:2] = runs[1], runs[0]
    return _joined(runs)


def _joined(runs: list[list[_Numbered]]) -> list[list[_Numbered]]:
    joined: list[list[_Numbered]] = []
    for run in runs:
        both = [*joined[-1], *run] if joined else []
        if any(is_augmentation(step) for _, step in both) and any(_are_one(both, module) for module in (augmenting, jittering)):
            joined[-1] = both
        else:
            joined.append(run)
    return joined


def _are_one(run: list[_Numbered], module: Any) -> bool:
    return module.are_one([step.use for _, step in run])


def is_augmentation(step: Call) -> bool:
    """Whether a step changes training examples only."""
    return step.use in AUGMENTATIONS


def preparations(steps: Sequence[Call]) -> tuple[Call, ...]:
    """The steps without the augmentations: what a deployed app has to repeat."""
    return tuple(step for step in steps if not is_augmentation(step))


def learned(steps: Sequence[Call], x: Any, *, source: str) -> tuple[Call, ...]:
    """The steps with the statistics of training examples filled in, each from what the preparations before it make of them.

    x: raw training examples (n, ...), or a dict of such by input name.

    Raises:
      DataError: a preparation that can't be applied to them.
    """
    done: list[Call] = []
    last = max((number for number, step in enumerate(steps) if step.use in LEARNERS), default=-1)
    for number, step in enumerate(steps):
        if number == last + 1:
            x = _rows(x, slice(1))  # nothing more is learnt: the others are only tried
        if not is_augmentation(step):
            try:
                if step.use in LEARNERS:
                    step = Call(step.use, LEARNERS[step.use](_numpy(x), **step.options))
                x = _in_batches(step, x)
            except (DataError, OptionError) as error:
                raise DataError(f"{source}: {error}") from error
            except Exception as error:  # TensorFlow says in many ways that a shape does not suit
                raise DataError(f"{source}: {step.use} can't be applied to {_shape(x)} ({said(error)})") from error
        done.append(step)
    return tuple(done)


def _in_batches(step: Call, x: Any) -> Any:
    """A preparation of many examples, in batches: a filter may take many times their memory."""
    prepare = functools.partial(PREPARATIONS[step.use], **step.options)
    if isinstance(x, dict) or len(x) <= _BATCH:
        return prepare(x)
    return np.concatenate([_numpy(prepare(x[at : at + _BATCH])) for at in range(0, len(x), _BATCH)])


def _rows(x: Any, rows: slice) -> Any:
    return {name: one[rows] for name, one in x.items()} if isinstance(x, dict) else x[rows]


def _numpy(x: Any) -> Any:
    return x if isinstance(x, dict) or not hasattr(x, "numpy") else x.numpy()


def _shape(x: Any) -> str:
    return "several inputs" if isinstance(x, dict) else f"examples of shape {tuple(x.shape[1:])}"
