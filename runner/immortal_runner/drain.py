"""Draining: when a task that has finished a run takes another."""

from immortal_runner.exit_codes import ExitCode

_NO_HINDRANCE = frozenset({ExitCode.COMPLETE, ExitCode.HANDLER_ERROR, ExitCode.PROCESS_DIED, ExitCode.PARKED})
"""How an attempt may end so that the next can be made in the same place.

A process that died is started anew. Code that fails before its handler would fail each run alike; a task that is out of
memory or disk, has lost a claim or is out of reach of AWS is no good place for another.
"""


def may_take_another(last: ExitCode, *, stopping: bool, late: bool) -> bool:
    """Decide whether a task takes another run.

    Args:
        last: How its last attempt ended.
        stopping: Whether the task was asked to end.
        late: Whether the time in which it may take runs is over.
    """
    return last in _NO_HINDRANCE and not stopping and not late
