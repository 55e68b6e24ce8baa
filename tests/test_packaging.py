"""The package itself: its names, its dependencies, what starting it loads, and what is in the repository."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tfopt

ROOT = Path(__file__).resolve().parents[1]
# The distributions of modules that bear another name; jinja2 brings markupsafe, whose Markup is part of its interface.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "skimage": "scikit-image", "markupsafe": "jinja2", "PIL": "pillow"}
NOT_IMPORTED_BY_TFOPT = {
    "setuptools": "TF-MOT imports distutils",
    "importlib-resources": "tensorflow-datasets imports it",
    "keras-tuner": "for the search over recipes",
}


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text):
    """Distribution -> requirement, without comments and spaces."""
    lines = [re.sub(r"\s", "", line.partition("#")[0]) for line in text.splitlines()]
    return {normal(re.split(r"[<>=!~;\[]", line)[0]): line.lower() for line in lines if line}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def installed():
    return requirements(setup()["options"]["install_requires"])


def python(code, *arguments):
    return subprocess.run([sys.executable, *arguments, "-c", code], check=True, capture_output=True, text=True).stdout


# Names


def test_all_public_names_are_there():
    for name in tfopt.__all__:
        assert getattr(tfopt, name) is not None, name


def test_public_names_are_sorted_and_listed():
    assert list(tfopt.__all__) == sorted(set(tfopt.__all__))
    assert set(tfopt.__all__) <= set(dir(tfopt))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = tfopt.nothing_like_it


def test_a_public_name_stays_itself_when_its_module_is_imported():
    code = (
        "import importlib, tfopt\n"
        "first = {n: getattr(tfopt, n) for n in tfopt.__all__}\n"
        "for home in set(tfopt._HOMES.values()): importlib.import_module('tfopt.' + home)\n"
        "assert [n for n in first if getattr(tfopt, n) is not first[n]] == []"
    )
    python(code)


# Starting


HEAVY = (
    "('tensorflow', 'tf_keras', 'keras', 'tensorflow_model_optimization', 'ai_edge_litert', 'numpy', 'matplotlib', 'sklearn', 'pydantic')"
)


def test_import_loads_nothing_heavy():
    assert python(f"import sys, tfopt; print([m for m in {HEAVY} if m in sys.modules])") == "[]\n"


def test_help_loads_no_tensorflow():
    code = (
        "import sys; from tfopt.cli import main; sys.argv = ['tfopt', '--help']\n"
        "try: main()\n"
        f"finally: print([m for m in {HEAVY} if m in sys.modules])"
    )
    output = python(code)
    assert "recipe" in output.lower()
    assert output.endswith("[]\n")


def test_the_command_is_installed():
    command = Path(sys.executable).with_name("tfopt")
    assert command.exists(), "install tfopt: pip install -e '.[dev]'"
    assert tfopt.__version__ in subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout


# Versions and dependencies


def test_the_version_is_the_same_everywhere():
    assert importlib.metadata.version("tfopt") == tfopt.__version__
    assert re.search(rf"^## {re.escape(tfopt.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_what_is_imported_is_required_and_nothing_else():
    used = {distribution(module) for path in (ROOT / "tfopt").rglob("*.py") for module in foreign_modules(path)}
    assert used - set(installed()) == set(), "imported, but not in setup.cfg"
    assert set(installed()) - used == set(NOT_IMPORTED_BY_TFOPT), "in setup.cfg, but not imported: say in NOT_IMPORTED_BY_TFOPT why"


def foreign_modules(path):
    """The packages that a file imports, standard library and tfopt aside."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            names = [first.value] if isinstance(first, ast.Constant) else []
        yield from {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"tfopt"}


def distribution(module):
    return normal(DISTRIBUTIONS.get(module, module))


def test_no_cuda_is_forced_on_anybody():
    assert "tensorflow" in installed()
    assert not [line for line in installed().values() if "cuda" in line or "nvidia" in line or "gpu" in line]


def test_what_is_installed_is_in_the_ranges():
    for line in installed().values():
        requirement = packaging_requirement(line)
        assert requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True), line


def packaging_requirement(line):
    return pytest.importorskip("packaging.requirements").Requirement(line)  # pytest itself needs packaging


def test_the_readme_installs_beside_another_tensorflow_what_setup_requires():
    """README has a way in where TensorFlow bears another name: with --no-deps tfopt and those that ask for "tensorflow", then the rest."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    found = [block for block in blocks if "--no-deps" in block]
    assert len(found) == 1, "README.md should have one fenced block with --no-deps"
    commands = [shlex.split(line, comments=True) for line in found[0].replace("\\\n", " ").splitlines() if "pip install" in line]
    bare, rest = ({word for c in commands if ("--no-deps" in c) == alone for word in packages(c)} for alone in (True, False))
    alone = {"tf-keras", "tensorflow-model-optimization"}
    ours = installed()
    assert bare == {"."} | {ours[name] for name in alone}
    missed = {name: line for package in alone for name, line in requirements("\n".join(asked_for(package))).items()}
    assert rest == {line for name, line in (missed | ours).items() if name not in alone | {"tensorflow"}}


def packages(command):
    """What a `pip install` command line, in words, installs."""
    return [word.lower() for word in command[command.index("install") + 1 :] if not word.startswith("-")]


def asked_for(package):
    """What a distribution asks for on this Python, extras aside."""
    wanted = [packaging_requirement(line) for line in importlib.metadata.requires(package)]
    return [f"{it.name}{it.specifier}" for it in wanted if it.marker is None or it.marker.evaluate({"extra": ""})]


# The repository


def tracked():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_place_of_one_machine():
    places = re.compile(rb"(?<![\w.:/*])/(?:home|root|Users|work)/\w|[A-Z]:\\Users\\")
    files = tracked()
    assert files
    found = [f"{path.relative_to(ROOT)}: {match[0].decode()}" for path in files for match in places.finditer(path.read_bytes())]
    assert found == []


def test_scripts_are_short_and_ci_calls_them():
    for script in ("scripts/demo", "scripts/test", ".ci/run"):
        assert len((ROOT / script).read_text().splitlines()) <= 12, script
        assert (ROOT / script).stat().st_mode & 0o111, script
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "runs", "*.egg-info", "build", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(pip, check=True)
    (wheel,) = tmp_path.glob("tfopt-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("tfopt/")}
    assert held == {str(p.relative_to(ROOT)) for p in (ROOT / "tfopt").rglob("*") if p.is_file() and p.suffix in (".py", ".j2")}
