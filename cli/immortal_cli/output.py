"""What the commands print: tables for people, one JSON object a line for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH_OF_A_FILE = 200
"""Columns of a table that no terminal shows."""


def write_json(value: Mapping[str, Any]) -> None:
    """Write one object as one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table for people."""
    from rich.table import Table  # noqa: PLC0415  # asking for help must not cost rich
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    _write(table)


def write_members(members: Iterable[tuple[str, str]]) -> None:
    """Write names and what they are, one below the other."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for name, value in members:
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    _write(table)


def _write(table: Table) -> None:
    """Write a table; where no terminal shows it, without the blanks that fill its lines up."""
    from rich.console import Console  # noqa: PLC0415

    if sys.stdout.isatty():
        Console(file=sys.stdout).print(table)
        return
    console = Console(file=sys.stdout, width=_WIDTH_OF_A_FILE)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().removesuffix("\n").split("\n"):
        click.echo(line.rstrip())


def tell(text: str) -> None:
    """Say something to the person; it is no part of the answer."""
    click.echo(text, err=True)
