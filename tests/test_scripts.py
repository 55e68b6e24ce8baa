"""scripts/demo and scripts/test up to the point where pip takes over, with a Python of ours that notes what it is asked to do.

That they install and run for real is what every run of them shows.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Makes "environments" by copying itself, says yes to all checks, and writes what is installed or run into log.
PYTHON = """#!/usr/bin/env bash
case "$1 $2" in
  "-m venv") [ -z "$NO_VENV" ] || exit 1; mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/tfopt" ;;
  "-m pip") echo "pip ${@: -1}" >>"$LOG"; [ -z "$SLOW_PIP" ] || exec sleep 60; [ -z "$NO_PIP" ] || exit 1 ;;
  "-c import"*) [ -z "$TOO_OLD" ] ;;
  "-c "*) ;;
  *) echo "$PWD: $*" >>"$LOG" ;;
esac
"""


class Clone:
    """A copy of what the scripts need, in a folder with a space in its name."""

    def __init__(self, folder):
        self.root = folder / "a clone"
        for name in ("scripts", ".ci", "tfopt", "setup.cfg", "pyproject.toml"):
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        self.python = folder / "python"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        self.log, self.elsewhere = folder / "log", folder / "elsewhere"
        self.elsewhere.mkdir()
        self.venv = self.root / ".venv"

    def start(self, script, *arguments, **environment):
        keep = {name: value for name, value in os.environ.items() if name != "PYTHON"}
        variables = {**keep, "PYTHON": str(self.python), "LOG": str(self.log), **environment}
        command = [str(self.root / script), *arguments]
        return subprocess.Popen(
            command, cwd=self.elsewhere, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def run(self, script, *arguments, **environment):
        process = self.start(script, *arguments, **environment)
        process.out, process.err = process.communicate(timeout=60)
        return process

    def notes(self):
        """What was done since the last time this was asked."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


def test_demo_installs_tfopt_and_runs_the_recipe(clone):
    done = clone.run("scripts/demo", "--quick")
    assert done.returncode == 0, done.err
    run = f"{clone.root}: run recipes/digits.toml --quick"
    assert clone.notes() == [f"pip {clone.root}", run]
    assert list(clone.elsewhere.iterdir()) == []


def test_test_installs_the_tools_and_hands_its_arguments_to_pytest(clone):
    assert clone.run("scripts/test", "--slow", "-k", "a or b").returncode == 0
    assert clone.notes() == [f"pip {clone.root}[dev]", f"{clone.root}: -m pytest --numprocesses 2 --dist loadfile --slow -k a or b"]
    assert clone.run(".ci/run").returncode == 0
    assert clone.notes() == [f"{clone.root}: -m pytest --numprocesses 2 --dist loadfile"]


def test_the_second_run_installs_nothing(clone):
    clone.run("scripts/test")
    clone.notes()
    assert "installing" not in clone.run("scripts/test").out
    clone.run("scripts/demo")  # the development tools come with all that the demo needs
    assert not [note for note in clone.notes() if note.startswith("pip")]


@pytest.mark.parametrize("name", ["setup.cfg", "pyproject.toml"])
def test_new_requirements_are_installed(name, clone):
    clone.run("scripts/demo")
    with open(clone.root / name, "a") as file:
        file.write("\n# another\n")
    clone.notes()
    clone.run("scripts/demo")
    assert clone.notes()[0] == f"pip {clone.root}"


def test_a_moved_clone_is_installed_again(clone):
    clone.run("scripts/demo")
    clone.root = clone.root.rename(clone.root.with_name("moved"))
    clone.notes()
    clone.run("scripts/demo")
    assert clone.notes()[0] == f"pip {clone.root}"


def test_without_a_python_one_sentence(clone):
    done = clone.run("scripts/demo", PYTHON=str(clone.root / "no-such-python"))
    assert done.returncode == 1 and done.out == ""
    assert done.err.count("\n") == 1 and "no Python 3.11, 3.12 or 3.13" in done.err and "no-such-python" in done.err
    assert not clone.venv.exists()


def test_a_python_of_another_version_is_not_taken(clone):
    done = clone.run("scripts/demo", TOO_OLD="yes")
    assert done.returncode == 1 and "no Python 3.11, 3.12 or 3.13" in done.err
    assert not clone.venv.exists() and clone.notes() == []


def test_without_space_one_sentence(clone, tmp_path):
    (tmp_path / "bin").mkdir()
    df = tmp_path / "bin" / "df"
    df.write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available Capacity Mounted on\necho disk 9000000 8000000 1000000 89% /\n")
    df.chmod(0o755)
    done = clone.run("scripts/demo", PATH=f"{df.parent}:{os.environ['PATH']}")
    assert done.returncode == 1 and done.err.count("\n") == 1
    assert "needs 4000 MB" in done.err and "has 1000 MB free" in done.err and str(clone.root) in done.err
    assert not clone.venv.exists()


@pytest.mark.parametrize("failure", ["NO_VENV", "NO_PIP"])
def test_a_failure_leaves_nothing_half_made(failure, clone):
    done = clone.run("scripts/demo", **{failure: "yes"})
    assert done.returncode == 1 and "could not be" in done.err
    assert not clone.venv.exists()
    assert clone.run("scripts/demo").returncode == 0


def test_a_failing_update_keeps_the_environment(clone):
    clone.run("scripts/demo")
    (clone.venv / "mine").touch()
    done = clone.run("scripts/test", NO_PIP="yes")
    assert done.returncode == 1 and "could not be installed" in done.err
    clone.notes()
    assert clone.run("scripts/demo").returncode == 0
    assert not [note for note in clone.notes() if note.startswith("pip")] and (clone.venv / "mine").exists()


def interrupted(clone, number):
    process = clone.start("scripts/demo", SLOW_PIP="yes")
    deadline = time.monotonic() + 30
    while not clone.notes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number)
    process.communicate(timeout=60)
    return process.returncode


def test_an_installation_that_was_killed_is_done_again(clone):
    interrupted(clone, signal.SIGKILL)
    (clone.venv / "half").touch()
    done = clone.run("scripts/demo")
    assert done.returncode == 0, done.err
    assert clone.notes()[0] == f"pip {clone.root}" and not (clone.venv / "half").exists()


def test_an_interrupted_installation_leaves_nothing(clone):
    assert interrupted(clone, signal.SIGTERM) != 0
    assert not clone.venv.exists()


def test_a_broken_environment_is_made_again(clone):
    clone.run("scripts/demo")
    (clone.venv / "bin" / "python").unlink()
    clone.notes()
    assert clone.run("scripts/demo").returncode == 0
    assert clone.notes()[0] == f"pip {clone.root}"


def test_an_environment_of_ones_own_is_used_if_it_fits_and_never_removed(clone):
    (clone.venv / "bin").mkdir(parents=True)
    shutil.copy(clone.python, clone.venv / "bin" / "python")
    shutil.copy(clone.python, clone.venv / "bin" / "tfopt")
    (clone.venv / "mine").touch()
    done = clone.run("scripts/demo", TOO_OLD="yes")
    assert done.returncode == 1 and "remove it" in done.err and (clone.venv / "mine").exists()
    assert clone.run("scripts/demo").returncode == 0
    assert (clone.venv / "mine").exists()
