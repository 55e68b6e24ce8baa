"""Text files and CSV tables as Python has them, with errors that name the file and the line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError, OptionError, nearest, shown
from . import _files

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def text_of(path: str | Path, encoding: str) -> str:
    """The text of a file; every kind of line end comes out as a newline, a byte order mark of UTF-8 is left out.

    Raises:
      DataError: there is no such file, it is not text in this `encoding`, or empty. OptionError: there is no such encoding.
    """
    path = _files.existing_file(Path(path), "name the file of the data")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error}); check its permissions") from error
    try:
        text = content.decode(encoding)
    except LookupError as error:
        raise OptionError(f"encoding = {encoding!r}: is none that Python knows; for instance 'utf-8', 'latin-1', 'cp1252'") from error
    except UnicodeError as error:
        raise DataError(_not_text(path, content, encoding, error)) from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DataError(f"{path}: is empty; should hold text")
    return text


def _not_text(path: Path, content: bytes, encoding: str, error: UnicodeError) -> str:
    mark = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    fix = f"it begins like {mark}: say encoding = {mark!r}" if mark else "say which it is, for instance encoding = 'latin-1' or 'cp1252'"
    at = getattr(error, "start", None)
    if at is None:
        return f"{path}: is not text in {encoding} ({error}); {fix}"
    line = content.count(b"\n", 0, at) + 1
    return f"{path}, line {line}: is not text in {encoding} (byte {at:,} of the file is 0x{content[at]:02x}); {fix}"


def lines_of(text: str) -> list[tuple[int, str]]:
    """(number counted from 1, line) of the lines that are not blank. Other than str.splitlines it breaks at newlines only."""
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


@dataclass(frozen=True)
class Table:
    """A CSV file, or several that were joined.

    Attributes:
      path: the first file.
      names: of the columns.
      rows: the fields of each row as text, without blanks around them.
      places: the file and the line (counted from 1) that each row ends on.
      notes: what was left out.
    """

    path: Path
    names: tuple[str, ...]
    rows: list[list[str]]
    places: list[tuple[Path, int]]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def index(self, name: str, option: str) -> int:
        """Where the column stands; a DataError with the nearest name where there is none, for which `option` asks."""
        if name not in self.names:
            split = next((one for one in (";", "\t", "|") if len(self.names) == 1 and one in self.names[0]), None)
            fix = f"its only column is {shown(self.names[0])}: say delimiter = {split!r}" if split else nearest(name, self.names)
            raise DataError(f"{self.path}: has no column {shown(name)}, which {option} asks for; {fix}")
        return self.names.index(name)

    def column(self, name: str) -> list[str]:
        """All fields of a column that there is."""
        at = self.names.index(name)
        return [row[at] for row in self.rows]

    def place(self, row: int) -> str:
        """Where a row stands, as the begin of a sentence."""
        path, line = self.places[row]
        return f"{path}, line {line}"

    def take(self, rows: Sequence[int]) -> Table:
        """These rows of it."""
        return replace(self, rows=[self.rows[row] for row in rows], places=[self.places[row] for row in rows])


def joined(tables: Sequence[Table]) -> Table:
    """The rows of several tables below each other, with the columns of the first one.

    Raises:
      DataError: a table lacks one of them.
    """
    first, *others = tables
    rows, places = list(first.rows), list(first.places)
    for other in others:
        order = [other.index(name, f"the table {first.path}") for name in first.names]
        rows += [[fields[at] for at in order] for fields in other.rows]
        places += other.places
    return Table(first.path, first.names, rows, places, tuple(note for table in tables for note in table.notes))


def table_of(path: str | Path, *, delimiter: str = ",", encoding: str = "utf-8", names: Sequence[str] | None = None) -> Table:
    """The table of a CSV file, whose first line has the columns' names, unless `names` are given.

    Blank lines are skipped; a line that repeats the header, as joined files have it, is left out and noted.

    Raises:
      DataError: the file is missing, not text, empty, has no rows, rows of different lengths, or a name twice.
    """
    path = Path(path)
    records = _records(path, text_of(path, encoding), delimiter)
    where = "names"
    if names is None:
        (line, names), *records = records
        where = f"{path}, line {line}"
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise DataError(f"{where}: the column {shown(twice[0])} is there twice; each needs a name of its own")
    rows = [(line, fields) for line, fields in records if fields != list(names)]
    repeated = len(records) - len(rows)
    if not rows:
        raise DataError(f"{path}: has no rows{' below its header' if not repeated else ''}; should have a line for each example")
    ragged = [(line, len(fields)) for line, fields in rows if len(fields) != len(names)]
    if ragged:
        (line, count), more = ragged[0], f" ({len(ragged):,} such lines)" if len(ragged) > 1 else ""
        raise DataError(
            f"{path}, line {line}: has {count} fields{more}, the header has {len(names)}; repair the line; "
            f"a field that holds the delimiter {delimiter!r} belongs in double quotes"
        )
    notes = (f"{path}: {repeated} lines that repeat the header were left out",) if repeated else ()
    return Table(path, tuple(names), [fields for _, fields in rows], [(path, line) for line, _ in rows], notes)


def _records(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    if len(delimiter) != 1 or delimiter in '"\n\r':
        raise OptionError(f"delimiter = {delimiter!r}: should be one character, such as ',', ';' or '\\t'")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=delimiter != " ")
    records = []
    try:
        for fields in reader:
            if any(field.strip() for field in fields) or len(fields) > 1:
                records.append((reader.line_num, [field.strip() for field in fields]))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: is no CSV ({error}); double quotes come in pairs around a whole field") from error
    return records
