"""The reconciler's shell: sees to it that no run is forgotten when its task stops or its due time comes."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Protocol, assert_never

from immortal_dispatcher.decide import START_GRACE_MS, GiveBack, Launch, Park, Postpone, after_due
from immortal_dispatcher.dispatch import Account, Clock, carry_out_launch
from immortal_dispatcher.launch import Refused
from immortal_dispatcher.speak import Say, describe_error
from immortal_dispatcher.stops import Stop, after_loss, after_stop, read_stop
from immortal_lambda.ledger import Ledger, RunUnknown
from immortal_lambda.runs import Run

SWEEP_AT_MOST = 100
"""Runs that one sweep looks at; the rest stay due, and the longest overdue come first."""

LOOK_AGAIN_MS = 5 * 60 * 1000
"""When to look again at a run that was looked at in vain, or whose lease was lost while its task still runs."""

_NO_ROOM = frozenset({"capacity", "throttled"})


class Cluster(Account, Protocol):
    """All that the reconciler asks of AWS."""

    def find_stop(self, task_arn: str) -> Stop | None:
        """Say how a task ended, None while it runs; a task that ECS no longer knows has ended."""
        ...


def reconcile_stop(task: Mapping[str, Any], account: Cluster, *, now_ms: int, say: Say) -> None:
    """Do what a task's end asks for: for the run that it was started for, and for one that it had taken after it.

    Args:
        task: The ``detail`` of an event "ECS Task State Change".

    Raises:
        ImmortalError: The ledger could not be asked; the runs' due times remain.
    """
    stop = read_stop(task)
    if stop is None or not stop.run_id:
        return
    for run_id in dict.fromkeys([stop.run_id, *_held_by(stop, account.ledger)]):
        try:
            run = account.ledger.read(run_id)
        except RunUnknown:
            say("no such run", run_id=run_id, task_arn=stop.task_arn)
            continue
        _carry_out(run, after_stop(run, stop, now_ms=now_ms), account.ledger, now_ms, say)


def _held_by(stop: Stop, ledger: Ledger) -> Iterator[str]:
    """The runs that a task may have left in the lurch; its end names only the one that it was started for."""
    return iter(()) if stop.in_order else (run.run_id for run in ledger.held_by(stop.task_arn))


def sweep(account: Cluster, *, clock: Clock, say: Say) -> None:
    """Look at the runs that are due: launch what waits, park what was lost.

    It ends early when ECS has no room: the rest stay due.

    Raises:
        ImmortalError: The ledger could not be asked.
    """
    for run_id in list(islice(account.ledger.due(clock()), SWEEP_AT_MOST)):
        try:
            room = _look_at(run_id, account, clock(), say)
        except Exception as error:  # noqa: BLE001  # whatever befalls one run must not befall the next
            say("looked in vain", run_id=run_id, **describe_error(error))
            _put_off(run_id, account.ledger, clock(), say)
            continue
        if not room:
            return


def _look_at(run_id: str, account: Cluster, now_ms: int, say: Say) -> bool:
    """Look at one run; False when ECS has no room for another task."""
    run = account.ledger.read(run_id)
    if not 0 < run.due_at_ms <= now_ms:
        return True  # the index lags behind the table
    if run.status == "pending":
        decision = after_due(run, now_ms=now_ms)
        if isinstance(decision, Launch):
            return _launch_again(run, account, now_ms, say)
        _carry_out(run, decision, account.ledger, now_ms, say)
    if run.lease_lost(now_ms):
        _carry_out(run, _after_lost_lease(run, account, now_ms), account.ledger, now_ms, say)
    return True


def _put_off(run_id: str, ledger: Ledger, now_ms: int, say: Say) -> None:
    """Let others go first: a run that is looked at in vain would else stay the longest overdue for ever."""
    try:
        run = ledger.read(run_id)
        if 0 < run.due_at_ms <= now_ms:
            _carry_out(run, Postpone(now_ms + LOOK_AGAIN_MS), ledger, now_ms, say)
    except Exception as error:  # noqa: BLE001  # as in the look itself
        say("not put off", run_id=run_id, **describe_error(error))


def _launch_again(run: Run, account: Cluster, now_ms: int, say: Say) -> bool:
    ordered = account.ledger.order_launch(run, due_at_ms=now_ms + START_GRACE_MS, now_ms=now_ms)
    if ordered is None:
        return True
    answer = carry_out_launch(ordered, account, now_ms=now_ms, say=say)
    return not (isinstance(answer, Refused) and answer.cause in _NO_ROOM)


def _after_lost_lease(run: Run, account: Cluster, now_ms: int) -> Park | Postpone | GiveBack:
    if not run.task_arn:
        return Park(
            "its lease ran out and the record names no task that could be asked. Next step: see what it did "
            f"(immortal runs logs {run.run_id}), then immortal runs redrive {run.run_id} if it may run twice"
        )
    stop = account.find_stop(run.task_arn)
    if stop is None:
        return Postpone(now_ms + LOOK_AGAIN_MS)  # its task still runs: left to it
    return after_loss(run, stop, now_ms=now_ms)


def _carry_out(run: Run, decision: Park | Postpone | GiveBack | None, ledger: Ledger, now_ms: int, say: Say) -> None:
    match decision:
        case None:
            return
        case Park(reason):
            done = ledger.park(run, reason=reason, now_ms=now_ms)
            say("parked" if done else "moved on", run_id=run.run_id, reason=reason)
        case Postpone(due_at_ms, reason):
            stays = run.reason if reason is None else reason
            ledger.postpone(run, reason=stays, due_at_ms=due_at_ms, now_ms=now_ms)
            say("postponed", run_id=run.run_id, status=run.status, reason=stays, due_at_ms=due_at_ms)
        case GiveBack(due_at_ms, reason):
            done = ledger.give_back(run, reason=reason, due_at_ms=due_at_ms, now_ms=now_ms)
            say("given back" if done else "moved on", run_id=run.run_id, reason=reason, due_at_ms=due_at_ms)
        case _:
            assert_never(decision)
