"""Where things stand in a TOML text: line and column of every key and value, which the standard parser does not keep.

The text must be one that ``tomllib`` accepted; on anything else the answers are wrong, not dangerous. One pass over the
characters. Lines and columns count from 1, columns in characters.
"""

import bisect
import re
from typing import Final

Path = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR: Final = re.compile(r"[^,\]\}#\n]*")
_LINE_END: Final = re.compile(r"\\[ \t]*\n\s*")  # a backslash that folds lines into one
_ESCAPES: Final = {"u": 6, "U": 10}  # characters of an escape, where not two


class Positions:
    """Offsets of keys and values by path, such as ``("rules", 2, "when")``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._keys: dict[Path, int] = {(): 0}
        self._values: dict[Path, int] = {}
        self._at = 0
        self._scan()

    def line_and_column(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset in the text."""
        line = bisect.bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def of(self, path: Path) -> tuple[int, int]:
        """Place of the value at ``path``; of the nearest table around it where the text does not have it."""
        if path in self._values:
            return self.line_and_column(self._values[path])
        return self.of_key(path)

    def of_key(self, path: Path) -> tuple[int, int]:
        """Place of the key or table header at ``path``, or of the nearest one around it."""
        while path not in self._keys:
            path = path[:-1]
        return self.line_and_column(self._keys[path])

    def in_string(self, path: Path) -> list[tuple[int, int]]:
        """Place of every character of the string at ``path``, after its escapes are resolved, and of its end."""
        start = self._values[path]
        offsets, end = _string(self._text, start)
        quotes = 3 if self._text[start : start + 3] in ('"""', "'''") else 1
        return [self.line_and_column(offset) for offset in (*offsets, end - quotes)]

    def _scan(self) -> None:
        table: Path = ()
        arrays: dict[Path, int] = {}
        while True:
            self._skip_blank()
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header(arrays)
            else:
                self._pair(table)

    def _skip_blank(self) -> None:
        match = _BLANK.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _header(self, arrays: dict[Path, int]) -> Path:
        """``[a.b]`` or ``[[a.b]]``; a name that is an array of tables means its last element."""
        start = self._at
        brackets = 2 if self._text.startswith("[[", start) else 1
        self._at += brackets
        names = self._dotted()
        self._skip_blank()
        self._at += brackets
        path: Path = ()
        for depth, (name, _) in enumerate(names):
            path = (*path, name)
            if depth == len(names) - 1 and brackets == 2:
                self._keys.setdefault(path, start)
                arrays[path] = arrays.get(path, -1) + 1
            if path in arrays:
                path = (*path, arrays[path])
            self._keys.setdefault(path, start)
        return path

    def _dotted(self) -> list[tuple[str, int]]:
        names = []
        while True:
            self._skip_blank()
            start = self._at
            if self._text[start] in "\"'":
                _, self._at = _string(self._text, start)
                names.append((self._text[start + 1 : self._at - 1], start))
            else:
                match = _KEY.match(self._text, start)
                assert match is not None
                self._at = match.end()
                names.append((match.group(), start))
            self._skip_blank()
            if self._text[self._at] != ".":
                return names
            self._at += 1

    def _pair(self, table: Path) -> None:
        path = table
        for name, start in self._dotted():
            path = (*path, name)
            self._keys.setdefault(path, start)
        self._at += 1  # the equals sign
        self._skip_blank()
        self._value(path)

    def _value(self, path: Path) -> None:
        self._values[path] = self._at
        self._keys.setdefault(path, self._at)
        opening = self._text[self._at]
        if opening in "\"'":
            _, self._at = _string(self._text, self._at)
        elif opening == "[":
            self._items(path, "]")
        elif opening == "{":
            self._items(path, "}")
        else:
            match = _SCALAR.match(self._text, self._at)
            assert match is not None
            self._at = match.end()

    def _items(self, path: Path, closing: str) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip_blank()
            if self._text[self._at] == closing:
                self._at += 1
                return
            if self._text[self._at] == ",":
                self._at += 1
            elif closing == "]":
                self._value((*path, index))
                index += 1
            else:
                self._pair(path)


def _string(text: str, start: int) -> tuple[list[int], int]:
    """Offsets of the characters of a TOML string, and the offset after its closing quotes."""
    quote = text[start]
    closing = quote * 3 if text.startswith(quote * 3, start) else quote
    at = start + len(closing)
    if len(closing) == 3 and text[at] == "\n":
        at += 1  # a newline right after the opening quotes is not part of the string
    offsets: list[int] = []
    while not text.startswith(closing, at) or (len(closing) == 3 and text.startswith(quote, at + 3)):
        if quote == '"' and text[at] == "\\":
            skipped = _LINE_END.match(text, at)
            if skipped is not None:
                at = skipped.end()
                continue
            offsets.append(at)
            at += _ESCAPES.get(text[at + 1], 2)
        else:
            offsets.append(at)
            at += 1
    return offsets, at + len(closing)
