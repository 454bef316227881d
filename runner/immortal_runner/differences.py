"""How a rerun differs from the run that failed, noted with its outcome, and which difference forbids it."""

from datetime import UTC, datetime

from immortal_lambda.arns import FunctionArn
from immortal_lambda.runs import Run
from immortal_runner.code.function import Function, FunctionRefused
from immortal_runner.runtimes.interpreters import name_architecture, name_runtime
from immortal_runner.runtimes.machine import this_machine
from immortal_runner.settings import ChangedCode


def describe_differences(function: Function, run: Run, *, memory_mb: int) -> str:
    """What an operator should know of how this rerun differs from the run that failed.

    Args:
        function: As GetFunction described it.
        run: The run, with what failed and when.
        memory_mb: What the function was told to have.
    """
    return join_notes(
        *function.notes,
        _other_runtime(function),
        _other_machine(function),
        _other_memory(function, memory_mb),
        _changed_since(function, run),
        _guessed_version(function, run),
    )


def refuse_changed(function: Function, run: Run, changed_code: ChangedCode) -> None:
    """Refuse code that is newer than the failure, where the installation says so.

    Raises:
        FunctionRefused: It is newer.
    """
    if changed_code == "park" and (changed := _changed_since(function, run)):
        raise FunctionRefused(
            f"{changed}, and IMMORTAL_CHANGED_CODE is park. Next step: immortal deploy --parameter ChangedCode=run and "
            f"immortal runs redrive {run.run_id}, if the code of today may finish it"
        )


def _other_runtime(function: Function) -> str:
    if function.image is not None:
        return ""
    here = name_runtime(this_machine(), function)
    return "" if function.runtime == here else f"the function names {function.runtime} and ran on {here}"


def _other_machine(function: Function) -> str:
    here = name_architecture()
    return (
        "" if function.architecture == here else f"the function is made for {function.architecture} and ran on {here}"
    )


def _other_memory(function: Function, memory_mb: int) -> str:
    if memory_mb == function.memory_mb:
        return ""
    return f"the function has {function.memory_mb} MB and was told of {memory_mb} MB, which its task leaves it"


def _changed_since(function: Function, run: Run) -> str:
    """Whether the code or its configuration is newer than the failure: what ran then can't be had any more."""
    if run.origin is None or function.version != "$LATEST":
        return ""
    modified = datetime.fromisoformat(function.last_modified)
    failed = datetime.fromtimestamp(run.origin.failed_ms / 1000, UTC)
    if modified <= failed:
        return ""
    return f"the function was changed at {_show(modified)}, after it had failed at {_show(failed)}"


def _guessed_version(function: Function, run: Run) -> str:
    """Whether the version is only what an alias points to today."""
    alias = FunctionArn.read(run.function_arn).qualifier
    if run.version or alias in (None, function.version):
        return ""
    return f"which version failed is not on record; {alias} is version {function.version} now"


def _show(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def join_notes(*notes: str) -> str:
    """One note of several; empty ones are left out."""
    return "; ".join(filter(None, notes))
