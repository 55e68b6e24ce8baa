"""TOML files as plain trees of dicts and lists: read, changed by settings, and with environment variables put in.

What is wrong is said in `problems`, a sentence each, by the path of the key that it is about.
"""

from __future__ import annotations

import functools
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import OptionError, RecipeError, nearest, shown, shown_key

_LARGEST_FILE = 100_000  # bytes: far above any recipe, far below a model file given by mistake
TOO_DEEP = "tables or arrays are nested too deeply, deeper than any recipe needs"


def read_table(path: str | os.PathLike) -> dict[str, Any]:
    """The tree of a TOML file.

    Raises:
      RecipeError: the file can't be read or is not TOML.
    """
    source, path = str(path), Path(path)
    try:
        if path.is_file() and path.stat().st_size > _LARGEST_FILE:
            raise RecipeError(source, [f"is {path.stat().st_size:,} bytes large, which no recipe is; give the .toml file"])
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(source, [f"there is no such file; {_recipes_in(path.parent, path.name)}"]) from None
    except IsADirectoryError:
        raise RecipeError(source, [f"is a folder, not a recipe; {_recipes_in(path, '')}"]) from None
    except UnicodeDecodeError as error:
        raise RecipeError(source, [f"is not a text file in UTF-8 (byte {error.start} is wrong); give the .toml file"]) from None
    except OSError as error:
        raise RecipeError(source, [f"can't be read: {error.strerror or error}"]) from error
    except ValueError as error:  # a NUL in the path
        raise RecipeError(shown(source), [f"is not a path: {error}"]) from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise RecipeError(source, [TOO_DEEP]) from None
    except ValueError as error:  # TOMLDecodeError, and int()'s own for thousands of digits
        raise RecipeError(source, [f"is not valid TOML: {error}"]) from None


def _recipes_in(folder: Path, name: str) -> str:
    if not folder.is_dir():
        return f"its folder {str(folder)!r} does not exist either"
    names = [file.name for file in folder.glob("*.toml")]
    return nearest(name, names) if names else f"the folder {str(folder)!r} holds no .toml file"


def with_setting(tree: Any, setting: str, problems: list[str]) -> Any:
    """The tree with a setting such as "fit.epochs=5" put in; tables that are not there yet are made, the given tree stays as it is."""
    path, equals, value = setting.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        problems.append(f"setting {shown(setting)}: should be KEY=VALUE, like fit.epochs=5 or steps.0.sparsity=0.7")
        return tree
    try:
        return _replaced(tree, keys, _value_of_setting(value.strip()))
    except OptionError as error:
        problems.append(f"setting {shown(setting)}: {error}")
        return tree


def _value_of_setting(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except ValueError as error:
        if text.startswith(("[", "{", '"', "'")) or "\n" in text:
            raise OptionError(f"the value is not valid TOML ({str(error).partition(' (at')[0]})") from None
        return text
    if table.keys() != {"value"}:
        raise OptionError("one value at a time")
    return table["value"]


def _replaced(tree: Any, keys: Sequence[str], value: Any) -> Any:
    """The tree with one value changed; the given tree stays as it is."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(tree, Mapping):
        return {**tree, key: _replaced(tree.get(key, {}), rest, value)}
    if not isinstance(tree, list | tuple):
        raise OptionError(f"{shown(tree)} holds no key {shown(key)}; set the whole of it instead")
    if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(tree)):
        raise OptionError(f"there is no element {shown(key)}; the list has {len(tree)}, counted from 0")
    return [_replaced(element, rest, value) if index == int(key) else element for index, element in enumerate(tree)]


def resolved(value: Any, where: str, problems: list[str]) -> Any:
    """A copy with environment variables put in and paths as strings; what no recipe may hold anywhere becomes a problem."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                problems.append(f"{join(where, str(key))}: keys should be strings")
        return {key: resolved(inner, join(where, key), problems) for key, inner in value.items() if isinstance(key, str)}
    if type(value) in (list, tuple):
        return type(value)(resolved(inner, f"{where}[{index}]", problems) for index, inner in enumerate(value))
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", functools.partial(_variable, value, where, problems), value)
    if isinstance(value, float) and math.isnan(value):
        problems.append(f"{where} = nan: should be a number")
    return value


def _variable(text: str, where: str, problems: list[str], match: re.Match) -> str:
    name = match[1]
    if name not in os.environ:
        problems.append(f"{where} = {shown(text)}: the environment variable {name} is not set")
    return os.environ.get(name, match[0])


def join(where: str, key: str) -> str:
    """The path of a key: `join("fit", "epochs")` is "fit.epochs"."""
    return f"{where}.{shown_key(key)}" if where else shown_key(key)
