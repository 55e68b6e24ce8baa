"""In which precision and by which calls a fit runs: what is left to "auto" is tried out on this machine for some seconds.

Nothing tells beforehand what is fastest. On a CPU with AVX512_BF16 a ResNet-8 of 16 filters trained 1.5 times as fast in mixed_bfloat16 as
in float32, and one of 10 filters half as fast; XLA halved the speed there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _cpuinfo, _optimizers, _schedules, backend, pipelines
from ._stepping import own_step
from ._targets import Targets
from .errors import OptionError
from .files import write_atomically
from .surgery import precision
from .tracing import log, record
from .types import Data, Fit

MANY = 10  # steps an execution, as the other choice
WORTH = 1.1  # times as fast a choice has to be, so that noise decides nothing
SHORTEST, LONG = 20.0, 120.0  # seconds of training from which it pays to try half precision, which takes some 4, and the rest, some 15
FEWEST = 500  # steps: of fewer not even the time is measured, which takes a second or two by itself
# Seconds of a step from which XLA is not tried on a CPU. It has no oneDNN there: convolutional nets with longer steps were 2 to 3 times
# slower with it, only one with a step of 2 ms was faster. And its compiler needs 280 MB.
OVERHEAD = 0.005


@dataclass(frozen=True)
class Way:
    """How steps are computed; named as the fields of `Fit`."""

    precision: str
    xla: bool
    steps_per_execution: int

    def __str__(self) -> str:
        steps = f", {self.steps_per_execution} steps a call" if self.steps_per_execution > 1 else ""
        return f"{self.precision}{' with XLA' if self.xla else ''}{steps}"

    def compile(self, model: Any, targets: Targets, fit: Fit, **settings: Any) -> Any:
        """Compiles a model of this precision with its task's loss and the fit's optimizer, and returns the latter, not built yet.

        With float16 the loss is scaled, so that small gradients don't become zero.
        """
        loss = targets.task.loss(model, soft=targets.soft, smoothing=fit.label_smoothing)
        optimizer = _optimizers.optimizer(fit, pipelines.steps_per_epoch(targets.data, fit), model)
        scaled = backend.keras().mixed_precision.LossScaleOptimizer(optimizer) if self.precision == "mixed_float16" else optimizer
        model.compile(optimizer=scaled, loss=loss, jit_compile=self.xla, steps_per_execution=self.steps_per_execution, **settings)
        return optimizer


USUAL = Way("float32", False, 1)
FIELDS = tuple(field.name for field in dataclasses.fields(Way))


def way_of(fit: Fit) -> Way:
    """How a fit without "auto" says that steps are computed."""
    return Way(**{name: getattr(fit, name) for name in FIELDS})


def resolved(model: Any, data: Data, fit: Fit, *, each_step: bool) -> Fit:
    """The fit with a value for each "auto": what is fastest here, where finding out is worth it, else what is usual.

    What was found for a model, a batch size and a machine is kept in a file of the user's cache folder, and used the next time.

    each_step: whether something of the user's is to be called after each step.

    Raises:
      OptionError: half precision for a model with models inside it; several steps in a call where something happens after each.
    """
    open_ = {name for name in FIELDS if getattr(fit, name) == "auto"}
    given = dataclasses.replace(fit, **{name: getattr(USUAL, name) for name in open_})
    steps = pipelines.steps_per_epoch(data, fit) * fit.epochs
    _check(model, given, each_step, steps)
    open_ -= {"precision"} if _is_nested(model) else set()
    open_ -= {"steps_per_execution"} if each_step or _acts_on_steps(fit, steps) else set()
    if not open_:
        return given
    if steps < FEWEST or model.distribute_strategy.num_replicas_in_sync > 1:
        return given
    key, cache = _key(model, data, fit), _cache()
    known = cache.get(key)
    if known is None or not {*_worth_trying(known["step"], steps, open_)} <= {*known["compared"]}:
        known = _Trial(model, data, given, open_).found(steps)
        _keep({**cache, key: known})
    _tell(model.name, known)
    return dataclasses.replace(given, **{name: value for name, value in known["chosen"].items() if name in open_})


def _check(model: Any, fit: Fit, each_step: bool, steps: int) -> None:
    if fit.precision != "float32" and _is_nested(model):
        raise OptionError(
            f"fit.precision = {fit.precision!r}: {model.name!r} has models inside it, whose layers can't be changed one by one; "
            "leave precision out, or build the model of layers only"
        )
    if fit.steps_per_execution > 1 and (reason := "callbacks" if each_step else _acts_on_steps(fit, steps)):
        raise OptionError(
            f"fit.steps_per_execution = {fit.steps_per_execution}: {reason} act after each step, of which a call then makes several; "
            "leave one of both out"
        )


def _is_nested(model: Any) -> bool:
    return any(isinstance(layer, backend.keras().Model) for layer in model.layers)


def _acts_on_steps(fit: Fit, steps: int) -> str | None:
    """What of a fit happens in Python after each step."""
    acting = {
        "fit.ema": fit.ema is not None,
        "fit.max_norm": fit.max_norm is not None,
        "fit.accumulate": fit.accumulate > 1,
        f"schedule {fit.schedule!r} or a warm-up": _schedules.by_step(fit, steps) is not None,
    }
    return next((name for name, is_so in acting.items() if is_so), None)


def _tell(name: str, known: Mapping[str, Any]) -> None:
    if len(known["tried"]) > 1:
        rows = ", ".join(f"{name} {rate:,.0f}" for name, rate in known["tried"].items())
        chosen = Way(**known["chosen"])
        record("note", text=f"{name} is trained in {chosen}, of what was tried on this machine, in examples a second: {rows}")


class _Trial:
    """Ways to compute a step, timed beside each other on copies of the model and a few batches in memory."""

    def __init__(self, model: Any, data: Data, fit: Fit, open_: Collection[str]):
        self.model, self.fit, self.open = model, fit, open_
        self.targets = Targets(model, data, fit)
        batches = self.targets.of_training(pipelines.training_batches(data, fit))
        self.batches = batches.take(min(4, pipelines.steps_per_epoch(data, fit))).cache().repeat()
        self.rates: dict[str, float] = {}

    def found(self, steps: int) -> dict[str, Any]:
        """The fastest of the ways that are open, and the examples a second of each that was tried."""
        best = way_of(self.fit)
        run = self._runner(best)
        run(2)
        seconds = run(2) / 2
        self.rates[str(best)] = self.fit.batch_size / seconds
        changes = _worth_trying(seconds, steps, self.open)
        for name, value in changes.items():
            other = dataclasses.replace(best, **{name: value})
            if (faster := self._faster(best, run, other)) is not None:
                best, run = other, faster
        return {"chosen": dataclasses.asdict(best), "tried": self.rates, "step": seconds, "compared": [*changes]}

    def _faster(self, best: Way, run: Callable[[int], float], other: Way) -> Callable[[int], float] | None:
        """The runner of the other way, if that is faster than the best one, timed in turns; else None."""
        runs = {best: run, other: self._runner(other)}
        try:
            longest = max(_warm(one) for one in runs.values())
        except backend.tensorflow().errors.OpError as error:  # an operation that has no kernel in this way
            log.info("%s can't be computed in %s: %s", self.model.name, other, str(error).partition("\n")[0])
            return None
        count = max(2, math.ceil(0.1 / longest))
        times: dict[Way, list[float]] = {best: [], other: []}
        for _ in range(9):
            for way, one in runs.items():
                times[way].append(one(count) / count)
        for way, seconds in times.items():  # the shortest: what else runs on the machine makes some of them longer, never shorter
            self.rates[str(way)] = self.fit.batch_size / min(seconds)
        return runs[other] if self.rates[str(other)] > WORTH * self.rates[str(best)] else None

    def _runner(self, way: Way) -> Callable[[int], float]:
        """A function that makes at least so many steps, and says how long so many took, in seconds."""
        with backend.seeded(0):
            model = precision.mixed(self.model, way.precision)
        way.compile(model, self.targets, self.fit, metrics=self.targets.task.watched(model))
        iterator = iter(self.batches)

        def run(count: int) -> float:
            calls = -(-count // way.steps_per_execution)
            with own_step(model, self.fit):
                step = model.make_train_function()
                start = time.perf_counter()
                for _ in range(calls):
                    result = step(iterator)
                float(result["loss"])  # waits for a device
            return (time.perf_counter() - start) * count / (calls * way.steps_per_execution)

        return run


def _warm(run: Callable[[int], float]) -> float:
    """The seconds of a step, once everything is compiled."""
    run(1)
    return run(1)


def _worth_trying(step: float, steps: int, open_: Collection[str]) -> dict[str, Any]:
    """Other values for the fields that are open, where a step takes so many seconds in the usual way, and there are so many of them."""
    gpus, whole = _gpu_capabilities(), step * steps
    half = half_precision(_cpu_flags(), gpus)
    worth = {
        "precision": (half, half is not None and whole >= SHORTEST),
        "xla": (True, whole >= LONG and (bool(gpus) or step < OVERHEAD)),
        "steps_per_execution": (MANY, whole >= LONG),
    }
    return {name: value for name, (value, is_worth) in worth.items() if is_worth and name in open_}


def half_precision(flags: Sequence[str], capabilities: Sequence[tuple[int, int]]) -> str | None:
    """The policy of half precision that this hardware has instructions for; None where it would be emulated.

    Args:
      flags: of the CPU, as in /proc/cpuinfo.
      capabilities: the compute capability of each GPU: tensor cores take float16 from 7.0 on, bfloat16 from 8.0.
    """
    if capabilities:
        lowest = min(capabilities)
        return "mixed_bfloat16" if lowest >= (8, 0) else "mixed_float16" if lowest >= (7, 0) else None
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else None


def _cpu_flags() -> list[str]:
    return _cpuinfo.first("flags").split()


def _gpu_capabilities() -> list[tuple[int, int]]:
    config = backend.tensorflow().config
    details = [config.experimental.get_device_details(device) for device in config.list_physical_devices("GPU")]
    return [one.get("compute_capability", (0, 0)) for one in details]


# What was found before


def _key(model: Any, data: Data, fit: Fit) -> str:
    """Of what the speed depends on: machine, libraries, layers, shapes, batch size and optimizer."""
    machine = (platform.node(), platform.processor(), os.cpu_count(), sorted(_cpu_flags()), _gpu_capabilities())
    asked = {name: getattr(fit, name) for name in (*FIELDS, "batch_size", "optimizer", "accumulate", "l1", "l2")}
    facts = (machine, backend.versions(), model.to_json(), data.input_shape, data.task, sorted(asked.items()))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfopt" / "speed.json"


def _cache() -> dict[str, Any]:
    try:
        found = json.loads(_file().read_text())
        return {key: known for key, known in found.items() if _is_whole(**known)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # missing or damaged: it is only measured again
        return {}


def _is_whole(*, chosen: dict[str, Any], tried: dict[str, float], step: float, compared: list[str]) -> bool:
    return str(Way(**chosen)) in tried and step > 0 and isinstance(compared, list)


def _keep(cache: Mapping[str, Any]) -> None:
    try:
        write_atomically(_file(), json.dumps(cache, indent=1).encode())
    except OSError as error:
        log.info("%s: can't be written (%s); the next fit tries again", _file(), error.strerror or error)
