"""How a rerun differs from the run that failed, noted with its outcome."""

import platform
import sys
from datetime import UTC, datetime

from immortal_lambda.runs import Run
from immortal_runner.code.function import Function


def describe_differences(function: Function, run: Run) -> str:
    """What an operator should know of how this rerun differs from the run that failed."""
    return join_notes(_other_interpreter(function), _other_machine(function), _changed_since(function, run))


def _other_interpreter(function: Function) -> str:
    here = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return "" if function.runtime == here else f"the function names {function.runtime} and ran on {here}"


def _other_machine(function: Function) -> str:
    here = platform.machine().replace("aarch64", "arm64")
    return (
        "" if function.architecture == here else f"the function is made for {function.architecture} and ran on {here}"
    )


def _changed_since(function: Function, run: Run) -> str:
    """Whether the code or its configuration is newer than the failure: what ran then can't be had any more."""
    if run.origin is None or function.version != "$LATEST":
        return ""
    modified = datetime.fromisoformat(function.last_modified)
    failed = datetime.fromtimestamp(run.origin.failed_ms / 1000, UTC)
    if modified <= failed:
        return ""
    return f"the function was changed at {modified:%Y-%m-%d %H:%M:%S} UTC, after it had failed at {failed:%H:%M:%S}"


def join_notes(*notes: str) -> str:
    """One note of several; empty ones are left out."""
    return "; ".join(filter(None, notes))
