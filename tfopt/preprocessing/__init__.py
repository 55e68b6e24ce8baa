"""What is done to examples between the file and the model: an ordered list of steps, each a function on a batch of tensors.

A step is a `Call` by a name of the two tables below. The *preparations* are what a deployed app has to repeat: they are applied to all
examples, in training and after. The *augmentations* change training examples at random and are applied to nothing else, wherever in the
list they stand: noise before the spectrogram, say, and SpecAugment behind it. The keyword-only parameters of each function are its options.

    steps = calls(["background_noise", "log_mel", {"use": "z_score", "per": "feature"}, "spec_augment"])

A preparation may need statistics of the training set, such as a mean. They are options of it like others, and `learned` fills in those that
are not given, so that a list of steps is all there is to know: it can be written down as JSON and applied anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import backend, options
from ..errors import DataError, OptionError, nearest, shown
from ..types import Call
from . import audio, augmenting, scaling, tables, text

# (x) -> x: x a batch (n, ...), float32 unless the function says otherwise, as is what it returns
PREPARATIONS: dict[str, Callable[..., Any]] = {
    "encode_columns": tables.encode_columns,
    "log_mel": audio.log_mel,
    "mfcc": audio.mfcc,
    "rescale": scaling.rescale,
}

# of some preparations: (x, **options) -> the options with the statistics of x filled in; x is a numpy array of training examples (n, ...)
LEARNERS: dict[str, Callable[..., dict[str, Any]]] = {}

# (x, y, seed) -> (x, y): a batch of training examples and their labels, and an int32 seed of shape (2,)
AUGMENTATIONS: dict[str, Callable[..., Any]] = {
    "background_noise": audio.background_noise,
    "pad_and_crop": augmenting.pad_and_crop,
    "random_flip": augmenting.random_flip,
    "spec_augment": audio.spec_augment,
    "time_shift": audio.time_shift,
    "token_dropout": text.token_dropout,
}

STEPS = {**PREPARATIONS, **AUGMENTATIONS}


def check(steps: Sequence[Any]) -> Sequence[Any]:
    """The steps again.

    Raises:
      ValueError: an unknown name or option, or a value that is wrong.
    """
    problems = [problem for number, step in enumerate(steps) for problem in _problems(step, number)]
    if problems:
        raise ValueError("; ".join(problems))
    return steps


def _problems(step: Any, number: int) -> list[str]:
    where = f"step {number}"
    if not isinstance(step, str | Mapping) or (isinstance(step, Mapping) and not isinstance(step.get("use"), str)):
        return [f'{where} is {shown(step)}; should be a name, or a table like {{ use = "random_flip" }}']
    name, given = (step, {}) if isinstance(step, str) else (step["use"], {key: value for key, value in step.items() if key != "use"})
    if name not in STEPS:
        return [f"{where} is {shown(name)}, which there is not; {nearest(name, STEPS)}"]
    return [f"{where} ({name}): {problem}" for problem in options.problems_with(STEPS[name], given)]


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


def _call(step: str | Mapping[str, Any]) -> Call:
    if isinstance(step, str):
        return Call(step)
    return Call(step["use"], {key: value for key, value in step.items() if key != "use"})


def applied(x: Any, y: Any, steps: Sequence[Call], seed: Any = None) -> tuple[Any, Any]:
    """A batch with all steps done, in their order; without a `seed` the augmentations are left out."""
    tf = backend.tensorflow()
    for number, step in enumerate(steps):
        function = tf.autograph.experimental.do_not_convert(STEPS[step.use])  # they are operations already, and so are built faster
        if is_augmentation(step):
            if seed is not None:
                x, y = function(x, y, tf.random.experimental.stateless_fold_in(seed, number), **step.options)
        else:
            x = function(x, **step.options)
    return x, y


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
    for step in steps:
        if not is_augmentation(step):
            try:
                if step.use in LEARNERS:
                    step = Call(step.use, LEARNERS[step.use](_numpy(x), **step.options))
                x = PREPARATIONS[step.use](x, **step.options)
            except Exception as error:  # TensorFlow says in many ways that a shape does not suit
                raise DataError(f"{source}: {step.use} can't be applied to {_shape(x)} ({_first_line(error)})") from error
        done.append(step)
    return tuple(done)


def _numpy(x: Any) -> Any:
    return x if isinstance(x, dict) or not hasattr(x, "numpy") else x.numpy()


def _shape(x: Any) -> str:
    return "several inputs" if isinstance(x, dict) else f"examples of shape {tuple(x.shape[1:])}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:300] or type(error).__name__
