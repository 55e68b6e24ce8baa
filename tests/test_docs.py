"""README.md and docs/: their examples run, their recipes are good, their links lead somewhere, and what they name exists."""

from __future__ import annotations

import code
import dataclasses
import functools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import test_architecture
import typer

import tfopt
from tfopt import cli, conversion, datasets, models, recipes, strategies, tasks, techniques, verification

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BASE = {"name": "page", "data": {"use": "digits"}, "model": {"use": "convnet"}}  # what a part of a recipe is checked with
COMMANDS = typer.main.get_command(cli.app).commands


def name(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def having(language):
    return pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, language)], ids=name)


def without_blocks(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@having("python")
def test_what_examples_name_of_tfopt_is_there_after_import_tfopt_alone(page):
    """Examples run in one process, in which other tests have loaded modules that `import tfopt` does not."""
    named = {name for block in blocks(page, "python") for name in re.findall(r"(?<![\w.\"'/-])tfopt\.(\w+)", block)}
    imported = {name for block in blocks(page, "python") for name in re.findall(r"^import tfopt\.(\w+)", block, re.MULTILINE)}
    assert named - imported <= set(tfopt.__all__)


class Prompt(code.InteractiveConsole):
    """Python's prompt, at which every error is raised."""

    def runcode(self, compiled):
        exec(compiled, self.locals)

    def showsyntaxerror(self, *args, **kwargs):
        raise sys.exc_info()[1]


def paste(text):
    """Runs a text as if it were pasted into `python`, line by line."""
    prompt = Prompt({"__name__": "__main__"})
    waiting = False
    for line in [*text.splitlines(), ""]:
        waiting = prompt.push(line)
    assert not waiting, "the last line is not finished"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A copy of what examples need of the repository's root, and the way there."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """One epoch wherever a fit has more, and quick runs."""
    checks = tfopt.Fit.__post_init__

    def one_epoch(fit):
        checks(fit)
        object.__setattr__(fit, "epochs", 1)

    monkeypatch.setattr(tfopt.Fit, "__post_init__", one_epoch)
    monkeypatch.setattr(tfopt, "run", functools.partial(tfopt.run, quick=True))


# Examples


@having("python")
def test_python_examples_can_be_pasted(page, root, quick, capsys):
    for text in blocks(page, "python"):
        paste(text)


@pytest.mark.slow
def test_the_readmes_example_works_in_python_as_it_stands(root):
    (text,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run([sys.executable, "-i", "-q"], input=text, capture_output=True, text=True, check=True)
    said = [line for line in done.stderr.splitlines() if line.strip("> ") and "Created TensorFlow Lite XNNPACK" not in line]
    assert said == []  # no traceback, no warning
    assert "optimized int8: accuracy" in done.stdout


def test_a_mistake_in_an_example_is_noticed():
    with pytest.raises(ZeroDivisionError):
        paste("1 / 0")
    with pytest.raises(SyntaxError):
        paste("def broken():\n    first = 1\n\n    return first\n")
    with pytest.raises(AssertionError, match="not finished"):
        paste("print(1,")


@having("toml")
def test_recipes_are_good(page, monkeypatch):
    monkeypatch.setenv("TFOPT_DATA", "data")
    for text in blocks(page, "toml"):
        recipes.parse({**BASE, **tomllib.loads(text)}, source=name(page))


def test_the_recipe_in_the_readme_is_the_demos():
    text, *_ = blocks(ROOT / "README.md", "toml")
    shown = recipes.parse(tomllib.loads(text), source="README.md")
    assert shown == dataclasses.replace(recipes.read(ROOT / "recipes" / "digits.toml"), note="")


@having("console")
def test_commands_exist_with_their_options(page):
    lines = [shlex.split(line, comments=True) for text in blocks(page, "console") for line in text.replace("\\\n", " ").splitlines()]
    for program, *arguments in filter(None, lines):
        if program == "tfopt":
            command, *rest = arguments
            COMMANDS[command].make_context(command, rest)  # raises on what it does not know
        else:
            assert program == "pip" or (ROOT / program).is_file(), program


# What is named


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if "://" not in target:
            path, _, part = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), target
            assert not part or part in {anchor(line) for line in re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)}, target


def anchor(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_the_readme_has_every_name_and_no_other():
    rows = re.findall(r"^\| (\w+) \| (.+) \|$", section(ROOT / "README.md", "What there is"), re.MULTILINE)
    told = {kind: set(re.findall(r"`(\w+)`", text)) for kind, text in rows if kind != "kind"}
    tables = {
        "datasets": datasets.DATASETS,
        "models": models.MODELS,
        "techniques": techniques.TECHNIQUES,
        "formats": conversion.FORMATS,
        "strategies": strategies.STRATEGIES,
        "tasks": tasks.TASKS,
    }
    assert told == {kind: set(table) for kind, table in tables.items()}


def test_the_readme_has_every_command():
    told = re.findall(r"^\| `tfopt (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert told == list(COMMANDS)


def test_the_recipes_page_has_every_key():
    page = ROOT / "docs" / "recipes.md"
    sections = {key.strip("[]").partition(".")[0] for key in keys(section(page, "All keys"))}
    assert sections == set(recipes._SECTIONS)
    assert keys(section(page, "`[fit]`, and `fit` of a step")) == list(recipes._FIT_KEYS)
    assert set(keys(section(page, "`[limits.LABEL]`"))) == set(verification.LIMITS)


@pytest.mark.parametrize("technique", techniques.TECHNIQUES)
def test_every_technique_has_a_page_with_its_options(technique):
    page = ROOT / "docs" / "techniques" / f"{technique}.md"
    told = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section(page, "Options"), re.MULTILINE))
    options = tfopt.options.options_of(techniques.TECHNIQUES[technique])
    assert list(told) == list(options)
    for option in options.values():
        if option.default is not None:
            written = str(option.default).lower() if isinstance(option.default, bool) else str(option.default)  # as TOML has it
            assert told[option.name].strip('"') == written


def section(page, title):
    """The text below a heading, up to the next one."""
    return re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", page.read_text(), re.DOTALL | re.MULTILINE)[1]


def keys(text):
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def test_the_architecture_page_names_every_module():
    told = set(re.findall(r"`([\w/]+\.(?:py|html\.j2))`", section(ROOT / "docs" / "architecture.md", "The modules")))
    package = ROOT / "tfopt"
    assert told == {str(path.relative_to(package)) for path in package.rglob("*") if path.suffix in (".py", ".j2")}


def test_the_architecture_pages_levels_are_those_that_are_enforced():
    (text,) = blocks(ROOT / "docs" / "architecture.md", "text")
    told = {module: int(number) for number, *names in map(str.split, text.splitlines()) for module in names}
    rooms = {test_architecture.room(module) for module in test_architecture.sources()}
    assert told == {room: level for room, level in test_architecture.LEVELS.items() if room in rooms and level >= 0}


def test_files_named_in_passing_exist():
    for page in PAGES:
        for path in re.findall(r"`((?:tfopt|tests|docs|recipes|scripts)/[\w./-]*)`", without_blocks(page)):
            assert (ROOT / path).exists(), f"{name(page)}: {path}"


def test_the_picture_is_small_enough_for_a_page():
    assert (ROOT / "docs" / "report.png").stat().st_size < 300_000
