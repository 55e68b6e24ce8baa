"""The command line. Each command imports what it needs, so that help and `check` load no TensorFlow.

Whatever goes wrong ends as one message on stderr and an exit code: 2 a bad recipe, option or usage; 3 a finished run that broke a
limit; 130 interrupted; 1 anything else. The environment variable TFOPT_TRACEBACK=1 adds the traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from ._answering import answering
from .errors import OptionError, nearest

if TYPE_CHECKING:
    from .reporting import Report
    from .types import Call, Fit, ModelFile

_HELP = """Trains a Keras model, makes it small and fast, and proves what that cost.

\b
A recipe, a short TOML file, says all of it:
  data -> train -> steps -> convert -> verify -> benchmark -> report
Start with   tfopt run recipes/digits.toml   (a minute; --quick: seconds).
To write your own, copy that file; `tfopt list` and `tfopt check` help.
"""
_CODES = "Exit codes: 0 good, 1 failed, 2 bad recipe or option, 3 broken limit."
_PIPE_WIDTH = 200  # columns where there is no terminal to ask: wide enough that no table of ours wraps

app = typer.Typer(
    help=_HELP, epilog=_CODES, add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's TOML file.")]
Tflite = Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite file.")]
Settings = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a value, as --set fit.epochs=5; again for more.")]
DataSettings = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Set an option of the data; again for more.")]
Trust = Annotated[bool, typer.Option("--trust", help="Run Python code that came in the model file (Lambda layers).")]
MODEL_HELP = "A .keras or .h5 file, or a SavedModel's folder."
_UNTRAINED = "no: the model is taken as it is, since there is no [fit]"
DATA_HELP = "A dataset's name (see: tfopt list datasets) or a recipe whose data to take."


def main() -> None:
    """The `tfopt` command."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal or pipe that knows only ASCII gets "?" and no traceback
    try:
        app()
    except KeyboardInterrupt:  # before or after a command's own work
        sys.exit(130)


# The commands, in the order of the flow


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tfopt {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def _options(version: Version = False) -> None:
    pass


@app.command("list", short_help="What a recipe can be made of, with all options.")
@answering
def list_(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="datasets, preprocessing, tasks, models, techniques or formats.")
    ] = None,
) -> None:
    """Lists datasets, steps of preprocessing, tasks, models, techniques and formats, each with its options, their types and defaults."""
    from . import conversion, datasets, models, preprocessing, tasks, techniques

    tables = {
        "datasets": {"datasets": datasets.DATASETS},
        "preprocessing": {
            "preprocessing: preparations, of all examples; an app repeats them": preprocessing.PREPARATIONS,
            "preprocessing: augmentations, of training examples only": preprocessing.AUGMENTATIONS,
        },
        "tasks": {"tasks": tasks.TASKS},
        "models": {"models": models.MODELS},
        "techniques": {"techniques": techniques.TECHNIQUES},
        "formats": {"formats": conversion.FORMATS},
    }
    if kind is not None and kind not in tables:
        raise OptionError(f"{kind!r}: no such kind; {nearest(kind, tables)}")
    for name in [kind] if kind else tables:
        for title, functions in tables[name].items():
            _print_functions(title, functions)


def _print_functions(title: str, functions: dict[str, Callable]) -> None:
    from . import options

    print(title)
    for name, function in functions.items():
        summary = (function.__doc__ or "").strip().partition("\n")[0]
        print(f"  {name}: {summary}")
        rows = [
            (f"    {it.name}", options.type_in_words(it.annotation), "required" if it.default is options.REQUIRED else f"= {it.default!r}")
            for it in options.options_of(function).values()
        ]
        if rows:
            _print_rows(rows)
    print()


@app.command(short_help="Read a recipe and say what would run.")
@answering
def check(recipe: Recipe, settings: Settings = []) -> None:  # noqa: B006 - typer copies it
    """Reads a recipe and prints what would run. Everything that is wrong with it is said at once. Loads no TensorFlow."""
    from . import conversion, recipes

    it = recipes.read(recipe, settings=settings)
    steps = [f"{number}. {_words(step)}" for number, step in enumerate(it.steps, 1)] or ["none"]
    limits = [f"{label}: {key} {value}" for label, limits in it.limits.items() for key, value in limits.items()] or ["none"]
    labels = ", ".join(conversion.label(call) for call in it.formats)
    _print_rows(
        [
            ("recipe", f"{it.name}: good, nothing is wrong with it" + (f" ({it.note})" if it.note else "")),
            ("data", _words(it.data)),
            *([("task", _words(it.task))] if it.task else []),
            ("model", _model_words(it.model)),
            (
                "train",
                (_fit_words(it.fit) if it.fit else _UNTRAINED) + ("" if it.strategy.use == "auto" else f", strategy {_words(it.strategy)}"),
            ),
            *([("then", _words(it.unfreeze))] if it.unfreeze else []),
            *_titled("steps", steps),
            ("export", f"{labels}, of the plain and of the optimized model" if it.steps else labels),
            *_titled("limits", limits),
            ("seed", str(it.seed)),
        ]
    )


def _titled(title: str, lines: Iterable[str]) -> list[tuple[str, str]]:
    return [(title if index == 0 else "", line) for index, line in enumerate(lines)]


def _words(call: Call) -> str:
    options = {key: value for key, value in call.options.items() if key != "fit"}
    words = " ".join([call.use, *(f"{key}={value!r}" for key, value in options.items())])
    fit = call.options.get("fit")
    return f"{words}, then {_fit_words(fit)}" if fit else words


def _model_words(model: Call | ModelFile) -> str:
    if hasattr(model, "use"):
        return _words(model)
    return f"{model.path}{', whose own Python code may run' if model.trust else ''}"


def _fit_words(fit: Fit) -> str:
    patience = f", patience {fit.patience}" if fit.patience else ""
    return f"{fit.epochs} epochs of batches of {fit.batch_size}, {fit.optimizer} from {fit.learning_rate:g}, {fit.schedule}{patience}"


@app.command(short_help="What the data holds, and a picture of it.")
@answering
def data(
    source: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe whose data to look at, or a dataset's name.")],
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="The picture to write; default runs/NAME-data.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as one JSON document.")] = False,
    settings: DataSettings = [],  # noqa: B006 - typer copies it
) -> None:
    """Counts the data's examples and shows their ranges, missing values, leaks and imbalance.

    Some are drawn, raw and augmented, into a PNG file. An older picture is replaced, any other file is not.
    """
    import json

    from . import describing

    examples = _loaded(_data_call(source, settings), source)
    drawn = describing.save_sheet(examples, sheet or describing.sheet_path(examples))
    found = examples.describe()
    if as_json:
        print(json.dumps({**found.as_dict(), "sheet": str(drawn)}, indent=2))
    else:
        print(f"{found}\n\nsheet: {drawn.resolve()}")


@app.command(short_help="Learning rate and batch size for a recipe, by trial.")
@answering
def find(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for the two plots.")] = Path("runs"),
    settings: Settings = [],  # noqa: B006 - typer copies it
) -> None:
    """Tries learning rates and batch sizes out on a recipe's model and data, which takes some seconds, and suggests one of each.

    Both are drawn, into NAME-rates.png and NAME-batches.png. Older plots are replaced, any other file is not.
    """
    from . import finding, pipeline, recipes, strategies, types

    it = recipes.read(recipe, settings=settings)
    fit = it.fit or types.Fit(seed=it.seed)
    with strategies.picked(it.strategy).scope():
        data, model = pipeline.begun(it)
        rates, sizes = finding.lr_find(model, data, fit), finding.batch_find(model, data, fit)
    plots = rates.save(out / f"{it.name}-rates.png"), sizes.save(out / f"{it.name}-batches.png")
    print(f"at batch size {fit.batch_size}: {rates}\n\n{sizes}\n\nplots: {' and '.join(str(plot.resolve()) for plot in plots)}")


@app.command(short_help="Do all that a recipe says, and report.")
@answering
def run(
    recipe: Recipe,
    quick: Annotated[bool, typer.Option("--quick", help="Few examples, one epoch: seconds, to see whether it works.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder; default runs/NAME.")] = None,
    settings: Settings = [],  # noqa: B006 - typer copies it
) -> None:
    """Trains, optimizes, converts, verifies, benchmarks and reports what a recipe says. Run again, it continues where it stopped."""
    from . import pipeline

    _show_stages()
    report = pipeline.run(recipe, out=out, quick=quick, settings=settings)
    _print_report(report, report.folder / "report.html")
    report.raise_for_limits()


@app.command(short_help="Make a run folder's report again.")
@answering
def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder.")]) -> None:
    """Makes the report of a run folder again, from what was measured, and prints it."""
    from . import reporting

    it = reporting.load(folder)
    _print_report(it, it.save(folder))


@app.command(short_help="What a model or a .tflite file is made of.")
@answering
def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A .keras or .h5 file, a SavedModel's folder, or a .tflite file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as one JSON document.")] = False,
    trust: Trust = False,
) -> None:
    """Shows layers or operations, parameters, multiply-accumulates, real dtypes, and what each technique would do."""
    import json

    from . import inspection

    found = inspection.inspect(model, trust=trust)
    print(json.dumps(found.as_dict(), indent=2) if as_json else found)


@app.command(short_help="A model file -> a .tflite file.")
@answering
def convert(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    format: Annotated[str, typer.Option(metavar="NAME", help="See: tfopt list formats.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .tflite file to write.")],
    io: Annotated[str | None, typer.Option(metavar="DTYPE", help="int8 only: the type at its borders: int8, uint8 or float32.")] = None,
    preprocessing: Annotated[bool, typer.Option("--preprocessing", help="The file takes raw examples and prepares them.")] = False,
    data: Annotated[str | None, typer.Option(metavar="DATA", help=DATA_HELP + " int8 takes its ranges from it.")] = None,
    settings: DataSettings = [],  # noqa: B006 - typer copies it
    trust: Trust = False,
) -> None:
    """Converts a model to a .tflite file. With data, what an app has to do in front of it is written beside it: FILE.preprocessing.json."""
    from . import conversion, deployment, loading, recipes

    said = {**({} if io is None else {"io": io}), **({"preprocessing": True} if preprocessing else {})}
    to, examples = recipes.format_call(format, **said), _data_call(data, settings)
    known = _loaded(examples, data)
    artifact = conversion.convert(loading.load(model, trust=trust), to.use, data=known, name=out.stem, **to.options)
    print(f"{artifact.save(out)}: {len(artifact.content):,} bytes")
    if known is not None:
        path = deployment.preprocessing_of(known).save(out.with_name(f"{out.stem}.preprocessing.json"))
        print(f"{path}: what is done to an example before the model")


@app.command(short_help="A .tflite file's score, beside its model's.")
@answering
def verify(
    file: Tflite,
    against: Annotated[Path, typer.Option(metavar="MODEL", help="What it should behave like. " + MODEL_HELP)],
    data: Annotated[str, typer.Option(metavar="DATA", help=DATA_HELP)],
    settings: DataSettings = [],  # noqa: B006 - typer copies it
    trust: Trust = False,
) -> None:
    """Runs a .tflite file over the whole test set and compares it with the model that it was made from."""
    from . import loading, runtime, verification

    call = _data_call(data, settings)
    runtime.Session(file)  # so that a damaged file is refused at once, before the model and the data are loaded
    verdict = verification.verify(file, against=loading.load(against, trust=trust), data=_loaded(call, data))
    low, high = verdict.interval
    _print_rows(
        [
            (verdict.metric, f"{verdict.score:.4f}", f"95 % interval {low:.4f} to {high:.4f}, {verdict.examples:,} test examples"),
            ("baseline", f"{verdict.baseline:.4f}", str(against)),
            ("drop", f"{verdict.drop:+.4f}", ""),
            ("agreement", f"{verdict.agreement:.4f}", verdict.agrees),
            ("largest error", f"{verdict.largest_error:.4g}", "between outputs"),
        ]
    )


@app.command(short_help="How long a model takes.")
@answering
def benchmark(
    file: Annotated[Path, typer.Argument(metavar="MODEL", help="A .tflite file; or a model, which is converted to float32 first.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    runs: Annotated[int, typer.Option(min=50, help="How many runs to count.")] = 50,
    data: Annotated[str | None, typer.Option(metavar="DATA", help=DATA_HELP + " Without: random values.")] = None,
    settings: DataSettings = [],  # noqa: B006 - typer copies it
    trust: Trust = False,
) -> None:
    """Measures how long one inference takes on this machine."""
    from . import loading, runtime, timing, types

    call = _data_call(data, settings)
    model = loading.load(file, trust=trust)
    converted = not isinstance(model, types.Artifact)
    if not converted:
        runtime.Session(file)
    took = timing.benchmark(model if converted else file, threads=threads, runs=runs, data=_loaded(call, data))
    _print_rows(
        [
            ("median", f"{took.median_ms:.4g} ms"),
            ("p90", f"{took.p90_ms:.4g} ms"),
            ("p99", f"{took.p99_ms:.4g} ms"),
            ("runs", f"{len(took.samples_ms)} after {took.warmup} to warm up, on {took.inputs}"),
            ("threads", str(took.threads)),
            ("runtime", took.runtime),
            ("machine", took.machine),
            *([("file", f"{file}, converted to float32 for this")] if converted else []),
        ]
    )


# What they share


def _show_stages() -> None:
    """Lets a person who watches see each finished stage and its seconds on stderr; a pipe or a file gets none of it."""
    import logging

    if sys.stderr.isatty():
        logger = logging.getLogger("tfopt")
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)
        logger.propagate = False  # TensorFlow's own handler would say everything again


def _print_report(report: Report, page: Path) -> None:
    print(report)
    print(f"\nreport: {page.resolve()}")


def _data_call(source: str | None, settings: list[str]) -> Call | None:
    """What the user says of the data, checked but not loaded; None where nothing is said."""
    if source is None:
        if settings:
            raise OptionError("--set sets options of the data; name the data with --data")
        return None
    from . import recipes

    return recipes.data_call(source, settings=settings)


def _loaded(call: Call | None, source: str | None) -> Any:
    """The data of a call, for the task of the recipe that it comes from."""
    from . import datasets, recipes, tasks

    if call is None:
        return None
    data, task = datasets.DATASETS[call.use](**call.options), recipes.task_call(source)
    return data if task is None else tasks.TASKS[task.use](data, **task.options)


def _print_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """A small table without lines; in a pipe plain text that is not wrapped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_PIPE_WIDTH)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
