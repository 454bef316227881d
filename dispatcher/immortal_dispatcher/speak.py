"""What the two functions say: one JSON object a line, never an event and never a secret."""

import json
import sys
import traceback
from typing import Protocol

from immortal_lambda.errors import ImmortalError


class Say(Protocol):
    """Writes one line of the log."""

    def __call__(self, said: str, /, **fields: str | int | None) -> None:
        """Say one thing; empty fields are left out."""
        ...


def say(said: str, /, **fields: str | int | None) -> None:
    """Write one line to standard output, which Lambda puts into the function's log."""
    line = {"said": said} | {name: value for name, value in fields.items() if value not in (None, "")}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def describe_error(error: BaseException) -> dict[str, str]:
    """Describe an unexpected error by its type and place.

    Its message is told only where it is ours: another one may quote the event.
    """
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} in {frame.name}" for frame in frames]
    message = str(error) if isinstance(error, ImmortalError) else ""
    return {"error": type(error).__name__, "message": message, "where": ", ".join(places)}
