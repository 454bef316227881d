"""Texts of strangers, cut to what a record can hold and a reader can bear."""

QUOTE_CHARS = 80


def quote(value: object) -> str:
    """Show what was found on one line: a text in quotation marks, cut to ``QUOTE_CHARS``; of anything else its type."""
    if not isinstance(value, str):
        return "nothing" if value is None else f"a {type(value).__name__}"
    return repr(value if len(value) <= QUOTE_CHARS else value[: QUOTE_CHARS - 1] + "…")


def shorten(text: str, max_bytes: int) -> str:
    """Cut a text to a number of bytes in UTF-8, at least 3; half characters, which JSON can spell, are replaced."""
    data = text.encode("utf-8", "replace")
    if len(data) <= max_bytes:
        return data.decode("utf-8")
    return data[: max_bytes - len("…".encode())].decode("utf-8", "ignore") + "…"
