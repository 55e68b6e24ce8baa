"""What image files say of themselves: told from their bytes, whatever their names end in, and without decoding where that can be helped.

A JPEG is whole if its segments lead to the picture and an end comes after it; of a large one only a few pages are read for that. A PNG is
whole if the checksum of each of its chunks is right. WebP, BMP and GIF have neither and are decoded. A JPEG whose picture is damaged in the
middle passes: decoders accept it as well, but for one in many.
"""

from __future__ import annotations

import importlib
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDINGS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif"}
KINDS = "JPEG, PNG, WebP, BMP and GIF"
# How a file is decoded: by TensorFlow as JPEG or PNG, by TensorFlow with three channels only, by Pillow.
JPEG, PNG, COLOR, PILLOW = range(4)
MOST_PIXELS = 89_478_485  # a quarter of a gigabyte, decoded; where Pillow begins to warn as well

_SOS, _EOI, _APP1 = 0xDA, b"\xff\xd9", 0xE1
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # which segments say the size, one for each coding; 0 to 2 are those in use
_PLAIN = {0x01, *range(0xD0, 0xD8)}  # segments without content
_CHUNK = 64  # files that a thread looks through before it asks for more
_EDGE = 4096  # bytes at a JPEG's start and end that go into its mark


@dataclass(frozen=True)
class Header:
    """Of one file.

    Attributes:
      way: how it is decoded.
      height, width: in pixels, as it is stored.
      turn: how it has to be turned to stand upright, as EXIF numbers it: 1 not at all, 3 upside down, 6 and 8 by a quarter, ...
      mark: tells its content from that of others.
    """

    way: int
    height: int
    width: int
    turn: int
    mark: str


def inspected(paths: Sequence[Path]) -> list[Header | str]:
    """The header of each file; of one that can't be read the reason, as the end of a sentence that begins with its name."""
    importlib.import_module("PIL.Image")  # not by several threads at once
    chunks = [paths[at : at + _CHUNK] for at in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [one for found in pool.map(lambda chunk: [_header_or_reason(path) for path in chunk], chunks) for one in found]


def _header_or_reason(path: Path) -> Header | str:
    try:
        return header_of(path)
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"can't be opened ({error.strerror or error})"


def header_of(path: Path) -> Header:
    """The header of an image file.

    Raises:
      ValueError: it is no image or not whole, with the reason as the end of a sentence. OSError: it can't be opened.
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ValueError("is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = _kind_of(content)(content, path)
    if not (header.width and header.height):
        raise ValueError("has no pixels")
    return header


def _kind_of(content: mmap.mmap) -> Any:
    start = content[:12]
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return _webp
    if start.startswith((b"GIF87a", b"GIF89a")):
        return _gif
    if start.startswith(b"BM"):
        return _bmp
    raise ValueError(f"is none of {KINDS} by its first bytes")


def _checked(way: int, height: int, width: int, mark: str, turn: int = 1) -> Header:
    if height * width > MOST_PIXELS:
        raise ValueError(f"has {height:,} x {width:,} pixels, more than the {MOST_PIXELS:,} that are read")
    return Header(way, height, width, turn, mark)


def _whole_mark(content: mmap.mmap) -> str:
    return f"{len(content)} {zlib.crc32(content):08x}"


def _jpeg(content: mmap.mmap, path: Path) -> Header:
    frame, turn, at = None, 1, 2
    while True:
        at = content.find(b"\xff", at)
        head = content[at : at + 10] if at >= 0 else b""
        if len(head) < 4:
            raise ValueError("is a JPEG that is cut off")
        marker, length = head[1], int.from_bytes(head[2:4], "big")
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker in _PLAIN or not marker:
            at += 2
            continue
        if marker == _SOS:
            break
        if marker in _FRAMES:
            frame = marker, head[4:]
        if marker == _APP1 and head[4:] == b"Exif\0\0":
            turn = _turn(content[at + 4 : at + 2 + length])
        at += 2 + length
    if frame is None:
        raise ValueError("is a JPEG that does not say its size")
    if content.rfind(_EOI, at) < 0:
        raise ValueError("is a JPEG that is cut off")
    (marker, facts), edges = frame, content[:_EDGE] + content[-_EDGE:]
    bits, height, width, channels = struct.unpack(">BHHB", facts)
    if marker > 0xC2 or bits != 8 or channels not in (1, 3, 4):
        raise ValueError(f"is a JPEG of a rare kind (coding {marker - 0xC0}, {bits} bits, {channels} channels), which is not read")
    return _checked(COLOR if channels == 4 else JPEG, height, width, f"{len(content)} {zlib.crc32(edges):08x}", turn)


def _turn(exif: bytes) -> int:
    found = importlib.import_module("PIL.Image").Exif()
    try:
        found.load(exif)
        turn = found.get(0x0112, 1)
    except Exception:  # what it raises on damaged tables has no common parent; the picture itself may be good
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _png(content: mmap.mmap, path: Path) -> Header:
    at, size, kind = 8, None, b""
    while kind != b"IEND":
        head = content[at : at + 8]
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (len(content), b"")
        end = at + 12 + length
        if end > len(content):
            raise ValueError("is a PNG that is cut off")
        if zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise ValueError(f"is a PNG that is damaged, by the checksum of its part at byte {at:,}")
        if kind == b"IHDR":
            size = struct.unpack(">II", content[at + 8 : at + 16])
        at = end
    if size is None:
        raise ValueError("is a PNG that does not say its size")
    width, height = size
    return _checked(PNG, height, width, _whole_mark(content))


def _webp(content: mmap.mmap, path: Path) -> Header:
    if int.from_bytes(content[4:8], "little") + 8 > len(content):
        raise ValueError("is a WebP that is cut off")
    return _decoded(content, path, "WebP")


def _gif(content: mmap.mmap, path: Path) -> Header:
    if len(content) >= 10:
        width, height = struct.unpack("<HH", content[6:10])
        _checked(PILLOW, height, width, "")
    return _decoded(content, path, "GIF")


def _bmp(content: mmap.mmap, path: Path) -> Header:
    if len(content) >= 26:
        width, height = struct.unpack("<ii", content[18:26])
        _checked(PILLOW, abs(height), abs(width), "")
    return _decoded(content, path, "BMP")


def _decoded(content: mmap.mmap, path: Path, kind: str) -> Header:
    try:
        with importlib.import_module("PIL.Image").open(path, formats=[kind.upper()]) as image:
            width, height = image.size
            header = _checked(PILLOW, height, width, _whole_mark(content))
            image.load()
            moving = getattr(image, "is_animated", False)
    except ValueError as error:
        raise ValueError(f"is a {kind} that can't be decoded ({error})") from error
    except (OSError, SyntaxError, EOFError, IndexError, OverflowError, struct.error) as error:  # SyntaxError is Pillow's
        raise ValueError(f"is a {kind} that is cut off or damaged ({str(error).partition(' <')[0] or type(error).__name__})") from error
    return Header(COLOR, height, width, 1, header.mark) if kind == "WebP" and not moving else header
