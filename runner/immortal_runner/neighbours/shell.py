"""Environment variables as lines of a shell script."""

import re
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_OWN = frozenset(
    {
        "BASHOPTS", "BASHPID", "BASH_ARGC", "BASH_ARGV", "BASH_COMMAND", "BASH_LINENO", "BASH_SOURCE", "BASH_SUBSHELL",
        "BASH_VERSINFO", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "LINENO",
        "OPTIND", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "SRANDOM", "UID",
    }
)  # fmt: skip
"""Names that a shell keeps for itself: it refuses to set them, or hands on another value than it was given."""


def export_lines(variables: Mapping[str, str]) -> str:
    """Write lines that any POSIX shell reads as these variables, whatever their values hold.

    Afterwards ``"$@"`` begins with what sets the few that no shell lets be set: ``env NAME=value …``.
    """
    exported = "".join(f"export {name}={quote(value)}\n" for name, value in variables.items() if _settable(name))
    own = [quote(f"{name}={value}") for name, value in variables.items() if name in _OWN]
    return exported + (f'set -- env {" ".join(own)} "$@"\n' if own else "")


def quote(text: str) -> str:
    """Quote a text so that a shell reads it as one word."""
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"


def _settable(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and name not in _OWN
