"""The text of a PDF as Chromium writes it: enough to find a sentence in print, without a library for it."""

from __future__ import annotations

import re
import zlib

__all__ = ["read_pages"]


def read_pages(pdf: bytes) -> list[str]:
    """The text of each page, without white space, which a PDF does not hold reliably."""
    objects = {int(m[1]): m[2] for m in re.finditer(rb"(?:^|\n)(\d+) 0 obj\n(.*?)\nendobj", pdf, re.S)}
    letters = {number: _read_letters(objects, body) for number, body in objects.items() if b"/ToUnicode" in body}
    pages = []
    for body in objects.values():
        if b"/Type /Page\n" in body:
            content = re.search(rb"/Contents (\d+) 0 R", body)
            assert content is not None
            pages.append(_read_content(_unpack(objects[int(content[1])]), letters))
    return pages


def _read_content(content: bytes, letters: dict[int, dict[int, str]]) -> str:
    text, font = "", 0
    for name, string in re.findall(rb"/F(\d+) [\d.]+ Tf|<([0-9A-F]+)> ?(?=Tj|\]|-?\d|<)", content):
        if name:
            font = int(name)
        else:
            text += "".join(letters[font].get(int(string[i : i + 4], 16), "") for i in range(0, len(string), 4))
    return "".join(text.split())


def _read_letters(objects: dict[int, bytes], font: bytes) -> dict[int, str]:
    """Glyph number to character, by the font's ToUnicode map."""
    where = re.search(rb"/ToUnicode (\d+) 0 R", font)
    assert where is not None
    letters = {}
    for line in _unpack(objects[int(where[1])]).decode("ascii").splitlines():
        codes = re.findall(r"<([0-9A-F]+)>", line)
        if len(codes) == 2 and line != "<0000> <FFFF>":
            letters[int(codes[0], 16)] = bytes.fromhex(codes[1]).decode("utf-16-be")
        elif len(codes) == 3:
            first, last, start = (int(code, 16) for code in codes)
            letters.update({glyph: chr(start + glyph - first) for glyph in range(first, last + 1)})
    return letters


def _unpack(body: bytes) -> bytes:
    stream = re.search(rb"stream\r?\n(.*?)\nendstream", body, re.S)
    assert stream is not None
    # a carriage return before the end may belong to the stream or follow it: what follows is left over
    return zlib.decompressobj().decompress(stream[1])
