"""The command line as a person or a program calls it, and what it answers."""

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner, Result

from immortal_cli.main import main


@dataclass(frozen=True)
class Answer:
    """What a command wrote and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output, one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def immortal(*words: str, typed: str = "") -> Answer:
    """Call ``immortal``."""
    result: Result = CliRunner().invoke(main, words, input=typed, catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)
