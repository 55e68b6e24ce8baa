"""Run folders: found again, never overwritten, never half-made."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tfopt import runs
from tfopt.errors import RunError
from tfopt.tracing import record

COMMON = {"versions": {"tensorflow": "2"}}


@pytest.fixture
def opened(tmp_path):
    with runs.opened(tmp_path / "run", 'name = "a"\n', COMMON) as run:
        yield run


def make_with(text, calls):
    def make(folder):
        calls.append(text)
        (folder / "result.txt").write_text(text)
        record("note", text=text)
        return {"answer": 42}

    return make


def test_a_finished_stage_is_found_and_not_made_again(opened):
    calls = []
    first, second = (opened.stage("train", {"epochs": 3}, [], make_with("one", calls)) for _ in range(2))
    assert calls == ["one"] and first == second
    assert first.facts["answer"] == 42 and first.facts["trace"] == [{"kind": "note", "text": "one"}] and first.facts["seconds"] >= 0


@pytest.mark.parametrize("other", ["name", "spec", "parents", "common"])
def test_another_part_of_the_recipe_parent_or_version_is_another_stage(tmp_path, opened, other):
    calls = []
    parent = opened.stage("data", {}, [], make_with("parent", []))
    before = opened.stage("train", {"epochs": 3}, [], make_with("one", calls))
    run = runs.Run(opened.folder, {"versions": {"tensorflow": "3"}}) if other == "common" else opened
    after = run.stage(
        "fit" if other == "name" else "train",
        {"epochs": 4 if other == "spec" else 3},
        [parent] if other == "parents" else [],
        make_with("two", calls),
    )
    assert calls == ["one", "two"] and before.folder != after.folder


def test_a_stage_that_fails_leaves_nothing_that_looks_finished(opened):
    def fail(folder):
        (folder / "half.txt").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError):
        opened.stage("train", {}, [], fail)
    assert not [p for p in (opened.folder / "stages").iterdir() if not p.name.startswith(".")]
    assert opened.stage("train", {}, [], make_with("whole", [])).folder.joinpath("result.txt").read_text() == "whole"
    assert sorted(p.name for p in (opened.folder / "stages").iterdir())[0].startswith("train-")


def test_a_run_that_fails_before_anything_is_finished_leaves_no_folder(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError), runs.opened(folder, "", COMMON):
        raise ValueError("bad data")
    assert not folder.exists()
    with pytest.raises(ValueError), runs.opened(folder, "", COMMON) as run:
        run.stage("train", {}, [], make_with("whole", []))
        raise ValueError("bad data")
    assert list(folder.glob("stages/train-*"))


def test_another_recipe_is_refused_and_nothing_touched(tmp_path):
    folder = tmp_path / "run"
    with runs.opened(folder, 'name = "a"\nseed = 0\n', COMMON):
        pass
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(RunError, match=r"seed = 0.*seed = 1.*--out"), runs.opened(folder, 'name = "a"\nseed = 1\n', COMMON):
        pass
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(RunError, match="other files"), runs.opened(tmp_path, "", COMMON):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(RunError, match="is a file"), runs.opened(tmp_path / "photo.jpg", "", COMMON):
        pass


def test_a_folder_in_use_is_refused(tmp_path, opened):
    with pytest.raises(RunError, match="another process"), runs.opened(opened.folder, 'name = "a"\n', COMMON):
        pass


def test_a_place_that_can_not_be_written_is_said(tmp_path):
    with pytest.raises(RunError, match=r"can't be written.*--out"), runs.opened(tmp_path / ("x" * 300), "", COMMON):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file.*can't be written"), runs.opened(tmp_path / "file" / "run", "", COMMON):
        pass


def test_a_full_disk_is_said_and_leaves_no_stage(tmp_path):
    """The process may write files of a kilobyte at most: every larger write fails, as on a full disk."""
    code = f"""
import resource, signal
from pathlib import Path
from tfopt import runs
from tfopt.errors import RunError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with runs.opened(Path({str(tmp_path / "run")!r}), "", {{}}) as run:
    try:
        run.stage("train", {{}}, [], lambda folder: (folder / "model.h5").write_bytes(bytes(5000)) and None)
    except RunError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert "can't be written" in done.stdout and "stages/train-" in done.stdout, done.stderr
    assert not [p for p in (tmp_path / "run" / "stages").iterdir() if not p.name.startswith(".")]


def test_facts_are_plain_json(opened):
    stage = opened.stage("train", {}, [], make_with("x", []))
    assert json.loads((stage.folder / "facts.json").read_text())["answer"] == 42


def test_a_damaged_stage_is_named_with_what_helps(opened):
    stage = opened.stage("train", {}, [], make_with("x", []))
    (stage.folder / "facts.json").write_text("{")
    with pytest.raises(RunError, match=r"facts\.json.*remove .*train-"):
        _ = stage.facts


def test_what_a_killed_first_start_leaves_is_no_obstacle(tmp_path):
    for name in (".lock", ".recipe.toml.ab12"):
        (tmp_path / name).write_text("")
    with runs.opened(tmp_path, "", COMMON):
        pass
