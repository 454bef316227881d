"""The runner's exit codes: which family of outcome a task ended with."""

from enum import IntEnum

from immortal_runner.execution.outcomes import Errored, Outcome


class ExitCode(IntEnum):
    """What a task's exit code says. Codes above 128 are signals: the task was killed and recorded nothing."""

    COMPLETE = 0
    HANDLER_ERROR = 10
    INIT_ERROR = 11
    PROCESS_DIED = 12
    OUT_OF_MEMORY = 13
    DISK_FULL = 14
    PARKED = 20
    NOTHING_TO_DO = 21
    LEASE_LOST = 22
    RELEASED = 23
    BROKEN = 70


def exit_code_of(outcome: Outcome) -> ExitCode:
    """The exit code for an outcome that was recorded."""
    match outcome:
        case Errored(family="handler"):
            return ExitCode.HANDLER_ERROR
        case Errored(family="init"):
            return ExitCode.INIT_ERROR
        case Errored(family="memory"):
            return ExitCode.OUT_OF_MEMORY
        case Errored(family="disk"):
            return ExitCode.DISK_FULL
        case Errored(family="interrupted"):
            return ExitCode.RELEASED
        case Errored():
            return ExitCode.PROCESS_DIED
        case _:
            return ExitCode.COMPLETE
