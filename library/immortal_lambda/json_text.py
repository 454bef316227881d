"""JSON read without losing how it was spelled."""

import json
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

_BLANKS = " \t\n\r"
_DECODER = json.JSONDecoder()


class NotJson(ValueError):
    """The text is no JSON, or nests deeper than can be read."""


def parse(text: str) -> Any:
    """Read a JSON text.

    Raises:
        NotJson: The text is no JSON, names a number too long to read, or nests too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"not readable as JSON: {error}") from error


def member(text: str, name: str) -> str:
    """Cut one member's value out of a JSON object, byte for byte.

    What is parsed and written again is equal, yet not the same: ``1e400`` becomes infinite, ``1.10`` becomes ``1.1``.

    Args:
        text: A JSON object, already known to parse.
        name: The member's name; of several with the same name the last counts, as everywhere in JSON.

    Raises:
        KeyError: The object has no such member.
    """
    found: str | None = None
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = scanstring(text, at + 1)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        if key == name:
            found = text[start:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    if found is None:
        raise KeyError(name)
    return found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at
