"""The whole story: data -> train -> steps -> convert -> verify -> benchmark -> report."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import (
    __version__,
    backend,
    bridge,
    conversion,
    deployment,
    embedding,
    loading,
    measures,
    options,
    picturing,
    pipelines,
    recipes,
    reporting,
    runs,
    strategies,
    tasks,
    teaching,
    timing,
    training,
    verification,
)
from .datasets import DATASETS
from .errors import UnsupportedModel
from .files import write_atomically
from .models import MODELS
from .results import Row, Timing, Verdict
from .runs import Run, Stage
from .surgery import copying, freezing
from .techniques import LAST, TECHNIQUES, check_layers
from .types import Artifact, Call, Data, Fit, ModelFile, Recipe, Step

MODEL_FILE, ARTIFACT_FILE = "model.h5", "model.tflite"
RESOLVED_FILE = "resolved.toml"  # the recipe with all that "auto" left to the machine


def run(
    recipe: Recipe | Mapping[str, Any] | str | os.PathLike,
    *,
    out: str | os.PathLike | None = None,
    quick: bool = False,
    settings: Sequence[str] = (),
) -> reporting.Report:
    """Runs a recipe and returns its report, which is also written to the run's folder.

    What an earlier run of the same recipe in the same folder has finished is found there, not done again; one that was interrupted goes on.

    Args:
      recipe: a TOML file, the same as a dict, or a Recipe.
      out: the run's folder; by default `runs/NAME` (`runs/NAME-quick` for a quick one).
      quick: shrinks everything to seconds, to see that it runs; the numbers say nothing, and limits are not checked.
      settings: changes to the recipe, as "fit.epochs=5".

    Raises:
      RecipeError: the recipe is wrong; nothing was started.
      RunError: the folder belongs to another recipe, is in use, or can't be written.
      DataError, UnsupportedModel, ConversionError, OptionError: see there.

    >>> report = run("recipes/digits.toml")
    >>> print(report)
    >>> report.raise_for_limits()
    """
    recipe = recipes.load(recipe, settings=settings, quick=quick)
    folder = Path(out) if out is not None else Path("runs") / (recipe.name + ("-quick" if recipe.quick else ""))
    with runs.opened(folder, recipes.write(recipe), {"versions": {"tfopt": __version__, **backend.versions()}}) as opened:
        conversion.warm_up()  # the converter's process imports TensorFlow while we train
        report, models, prepared = _tell(opened, recipe)
        for stage in models:
            write_atomically(folder / "models" / f"{stage.name}.h5", (stage.folder / MODEL_FILE).read_bytes())
        report.save(folder)
        write_atomically(folder / "artifacts" / "preprocessing.json", prepared.as_json().encode())
    return report


def _tell(opened: Run, recipe: Recipe) -> tuple[reporting.Report, list[Stage], deployment.Preprocessing]:
    strategy, data = strategies.picked(recipe.strategy), _data(recipe)
    prepared = deployment.preprocessing_of(data)
    phases = [_train(opened, recipe, data, strategy)]
    if recipe.unfreeze:
        phases.append(_unfreeze(opened, recipe, phases[0], data, strategy))
    models = phases[-1:]  # what the steps begin with, and what files are verified against
    for number, step in enumerate(recipe.steps, 1):
        models.append(_step(opened, number, step, models, data, strategy))
    trained = [*phases, *models[1:]]
    embedded = [_embed(opened, recipe, models[0], data)] if recipe.embeddings else []
    exports = _exports(recipe, models)
    converted = [_convert(opened, export, data) for export in exports]
    pictured = [_picture(opened, exports[-1], converted[-1], models[0], data)] if data.task in picturing.TASKS else []
    reference = functools.cache(lambda: verification.reference(_loaded(models[0].folder), data))
    verified = [_verify(opened, e, stage, models[0], reference, data) for e, stage in zip(exports, converted, strict=True)]
    timed = _benchmark(opened, exports, converted, data)
    report = reporting.Report(
        recipe=recipe,
        environment=reporting.environment(strategy),
        rows=_rows(recipe, exports, converted, verified, timed),
        trace=(
            *({"kind": "note", "text": f"{data.name}: {note}"} for note in data.notes),
            *(entry for stage in (*trained, *embedded, *pictured) for entry in stage.facts["trace"]),
        ),
        seconds={stage.name: stage.facts["seconds"] for stage in (*trained, *embedded, *converted, *pictured, *verified, timed)},
        folder=opened.folder,
    )
    return report, trained, prepared


@dataclasses.dataclass(frozen=True)
class _Export:
    """A file to be made: its name, its format, and the stage and steps of the model that it is made from."""

    name: str
    format: Call
    model: Stage
    steps: tuple[str, ...]


def begun(recipe: Recipe) -> tuple[Data, Any]:
    """What a recipe begins with: its data, and its model before training, in the strategy that is current."""
    data = _data(recipe)
    with backend.seeded(recipe.seed):
        return data, _read(recipe.model, data) if isinstance(recipe.model, ModelFile) else _built(recipe.model, data)


def _data(recipe: Recipe) -> Data:
    data = DATASETS[recipe.data.use](**recipe.data.options)
    if recipe.task is not None:
        data = tasks.TASKS[recipe.task.use](data, **recipe.task.options)
    return pipelines.shrink(data) if recipe.quick else data


def _built(model: Call, data: Data) -> Any:
    """A model for data. What its task asks for, such as the activation at its end, and of texts the size of the vocabulary, are known
    where the recipe says no others.
    """
    text = data.source.get("text", data.source)  # of several inputs the one of that name
    words = len(text.get("vocabulary", ())) if isinstance(text, Mapping) else 0
    builder, known = MODELS[model.use], {**tasks.of(data).asked, "words": words}
    num_classes = known.pop("num_classes")
    known = {name: value for name, value in known.items() if name in options.options_of(builder) and value}
    return builder(data.input_shape, num_classes, **{**known, **model.options})


def _train(opened: Run, recipe: Recipe, data: Data, strategy: Any) -> Stage:
    def make(folder: Path) -> None:
        given = _read(recipe.model, data) if isinstance(recipe.model, ModelFile) else None
        with strategy.scope(), backend.seeded(recipe.seed):
            model = bridge.plain(given or _built(recipe.model, data))
            check_layers(recipe.steps, model, data)
            if recipe.unfreeze:  # what it names is there: else it would be found out only behind the first phase
                freezing.unfreeze(model, recipe.unfreeze.options["layers"])
            if recipe.fit:
                model = training.train(model, data, _resolved(opened, recipe, model, data, "fit"))
            loading.save(model, folder / MODEL_FILE)

    spec = {
        "data": data.fingerprint,
        "model": _identity(recipe.model),
        "fit": recipe.fit and dataclasses.asdict(recipe.fit),
        "strategy": dataclasses.asdict(recipe.strategy),
    }
    return opened.stage(_first(recipe), spec, [], make)


def _unfreeze(opened: Run, recipe: Recipe, trained: Stage, data: Data, strategy: Any) -> Stage:
    """The second phase of transfer learning. What comes out is the trained model of all that follows."""
    step = recipe.unfreeze

    def make(folder: Path) -> None:
        with strategy.scope():
            model = freezing.unfreeze(loading.load(trained.folder / MODEL_FILE), step.options["layers"])
            fit = _resolved(opened, recipe, model, data, "unfreeze")
            loading.save(training.train(model, data, fit, name="unfreeze"), folder / MODEL_FILE)

    return opened.stage("unfreeze", dataclasses.asdict(step), [trained], make)


def _resolved(opened: Run, recipe: Recipe, model: Any, data: Data, phase: str) -> Fit:
    """The fit of a phase ("fit" or "unfreeze") without "auto", as the run's folder says, or as is found now and written there before
    training, so that a run that goes on after an interruption computes as it did before, and the written recipe anywhere.
    """
    file = opened.folder / RESOLVED_FILE
    known = recipes.read(file) if file.exists() else recipe
    fit = known.fit if phase == "fit" else known.unfreeze.options["fit"]
    resolved = training.resolved(model, data, fit)
    if resolved != fit or known is recipe:
        changed = resolved if phase == "fit" else dataclasses.replace(known.unfreeze, options={**known.unfreeze.options, "fit": resolved})
        write_atomically(file, recipes.write(dataclasses.replace(known, **{phase: changed})).encode())
    return resolved


def _first(recipe: Recipe) -> str:
    """What the first stage does, and is called."""
    return "train" if recipe.fit else "load"


def _read(file: ModelFile, data: Data) -> Any:
    """The model of a file, if it is one to work on and fits the data."""
    model = loading.load(file.path, trust=file.trust)
    copying.check_supported(model)
    tasks.check_fits(model, data)
    return model


def _identity(model: Call | ModelFile) -> dict[str, Any]:
    """What the stage's name is made from: of a model's file, or of weights, the content, not its place."""
    if isinstance(model, ModelFile):
        return {"sha256": _hashes(Path(model.path)), "trust": model.trust}
    given = dataclasses.asdict(model)
    weights = model.options.get("weights")
    if weights not in (None, "imagenet") and Path(weights).is_file():  # else the builder refuses it
        given["options"]["weights"] = [*_hashes(Path(weights)).values()]
    return given


def _hashes(path: Path) -> dict[str, str]:
    """The SHA-256 of a file, or of each in a folder."""
    files = sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]
    try:
        return {str(inner.relative_to(path)): hashlib.sha256(inner.read_bytes()).hexdigest() for inner in files}
    except OSError as error:
        raise UnsupportedModel(f"{path}: can't be read ({error.strerror or error}); check the path and its permissions") from error


def _step(opened: Run, number: int, step: Step, models: Sequence[Stage], data: Data, strategy: Any) -> Stage:
    several, files = (of(step.options.get("teacher")) for of in (teaching.several, teaching.files_of))

    def make(folder: Path) -> None:
        with strategy.scope():
            teachers = [loading.load(models[0].folder / MODEL_FILE) if each == "trained" else each for each in several]
            options = {**step.options, **({"teacher": teachers} if teachers else {})}
            model = TECHNIQUES[step.use](loading.load(models[-1].folder / MODEL_FILE), data, **options)
            loading.save(model, folder / MODEL_FILE)

    spec = dataclasses.asdict(step) | ({"teachers": [_hashes(Path(each)) for each in files]} if files else {})
    parents = [models[-1], *(models[:1] if "trained" in several and len(models) > 1 else [])]
    return opened.stage(f"{number}-{step.use}", spec, parents, make)


def _embed(opened: Run, recipe: Recipe, trained: Stage, data: Data) -> Stage:
    def make(folder: Path) -> None:
        layer = None if recipe.embeddings is True else recipe.embeddings
        embedding.record_embeddings(embedding.embed(_loaded(trained.folder), data, layer=layer, seed=recipe.seed), data)

    return opened.stage("embed", {"layer": recipe.embeddings, "seed": recipe.seed}, [trained], make)


def _exports(recipe: Recipe, models: Sequence[Stage]) -> list[_Export]:
    """Each format of the plain and of the optimized model, the latter's float formats from the last model before `quantize_aware`."""
    trained = (_first(recipe), *(["unfreeze"] if recipe.unfreeze else []))
    made = [(*trained, *(step.use for step in recipe.steps[:number])) for number in range(len(models))]
    last = len(models) - 1
    last_plain = last - 1 if made[last][-1] == LAST else last
    exports = [_Export(f"plain-{conversion.label(f)}", f, models[0], made[0]) for f in recipe.formats]
    for f in recipe.formats:
        number = last if f.use == "int8" else last_plain
        if number > 0:  # else it would be the plain model's file once more
            exports.append(_Export(f"optimized-{conversion.label(f)}", f, models[number], made[number]))
    return exports


def _convert(opened: Run, export: _Export, data: Data) -> Stage:
    def make(folder: Path) -> None:
        model = _loaded(export.model.folder)
        artifact = conversion.convert(model, export.format.use, data=data, name=export.name, steps=export.steps, **export.format.options)
        artifact.save(folder / ARTIFACT_FILE)

    return opened.stage(f"convert-{export.name}", dataclasses.asdict(export.format), [export.model], make)


def _verify(opened: Run, export: _Export, converted: Stage, trained: Stage, reference: Callable[[], Any], data: Data) -> Stage:
    def make(folder: Path) -> dict[str, Any]:
        verdict = verification.verify(_artifact(export, converted), against=reference(), data=data)
        return {"verdict": dataclasses.asdict(verdict)}

    return opened.stage(f"verify-{export.name}", {}, [converted, trained], make)


def _picture(opened: Run, export: _Export, converted: Stage, trained: Stage, data: Data) -> Stage:
    def make(folder: Path) -> None:
        picturing.record_pictures(_loaded(trained.folder), _artifact(export, converted), data)

    return opened.stage("pictures", {}, [converted, trained], make)


def _benchmark(opened: Run, exports: Sequence[_Export], converted: Sequence[Stage], data: Data) -> Stage:
    def make(folder: Path) -> dict[str, Any]:
        artifacts = [_artifact(export, stage) for export, stage in zip(exports, converted, strict=True)]
        return {"timings": [dataclasses.asdict(timed) for timed in timing.compare(artifacts, data=data)]}

    return opened.stage("benchmark", {"machine": timing.machine()}, converted, make)


def _rows(
    recipe: Recipe, exports: Sequence[_Export], converted: Sequence[Stage], verified: Sequence[Stage], timed: Stage
) -> tuple[Row, ...]:
    rows = []
    for export, stage, check, samples in zip(exports, converted, verified, timed.facts["timings"], strict=True):
        artifact, facts = _artifact(export, stage), check.facts["verdict"]
        row = Row(
            artifact=artifact,
            verdict=Verdict(**{**facts, "interval": tuple(facts["interval"]), "confusion": tuple(map(tuple, facts["confusion"]))}),
            timing=Timing(**{**samples, "samples_ms": tuple(samples["samples_ms"])}),
            measures=measures.measure(artifact),
        )
        rows.append(row)
    last = {row.artifact.format: row for row in rows}  # the optimized model's row of a format, the plain one's where there is no other
    return tuple(_judged(row, recipe) if row is last[row.artifact.format] else row for row in rows)


def _judged(row: Row, recipe: Recipe) -> Row:
    """The row with the limits of its format that it breaks."""
    limits = recipe.limits.get(row.artifact.format, {})
    if recipe.quick or not limits:
        return row
    broken = verification.broken_limits(limits, row.verdict, row.measures, row.timing)
    named = tuple(f"{row.artifact.name}: {sentence}" for sentence in broken)
    return dataclasses.replace(row, verdict=dataclasses.replace(row.verdict, broken=named))


def _artifact(export: _Export, converted: Stage) -> Artifact:
    return Artifact(export.name, conversion.label(export.format), (converted.folder / ARTIFACT_FILE).read_bytes(), export.steps)


@functools.lru_cache(maxsize=3)  # each model is exported in several formats: the trained, the last plain and the final one
def _loaded(folder: Path) -> Any:
    return loading.load(folder / MODEL_FILE)
