"""The ledger's protocol: every step of a run as one conditional write."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice
from typing import Any, Protocol

from immortal_lambda.errors import ImmortalError
from immortal_lambda.items import from_item, payload_members, to_item
from immortal_lambda.payloads import Payload
from immortal_lambda.runs import ENDED, STATUSES, TRANSITIONS, Run, RunError, Status

RETENTION_S = 90 * 24 * 3600
"""How long an ended run stays on record, counted from its end."""

LOOK_AT_MOST = 200
"""Runs that one look for some among those of a status reads, whatever else stands there."""

Item = Mapping[str, Any]
"""A record as the table holds it, in plain values."""

_KEPT = frozenset({"run_id", "part", "created_at", "attempt", "fence"})
"""Members that a run keeps when it is taken up again."""

_OWN = "#status = :processing AND #owner = :owner AND fence = :fence"
_NAMES = {"#status": "status", "#owner": "owner"}


class ConditionFailed(Exception):
    """A conditional write found another state than it asked for.

    Attributes:
        item: What stands there; None when nothing does.
    """

    def __init__(self, item: Item | None) -> None:
        super().__init__("the conditional write found another state")
        self.item = item


class Table(Protocol):
    """All that the ledger asks of DynamoDB. ``aws.py`` asks boto3.

    Values are plain: str, int, bytes, dict, list. Writes raise ``ConditionFailed``.
    """

    def put_new(self, item: Item) -> None:
        """Write an item unless one with its key stands there."""
        ...

    def update(self, key: Item, expression: str, condition: str, names: Mapping[str, str], values: Item) -> Item:
        """Change an item if the condition holds; give the whole item as it then stands."""
        ...

    def get(self, key: Item) -> Item | None:
        """Read an item, consistently."""
        ...

    def query(
        self, index: str, condition: str, names: Mapping[str, str], values: Item, *, forward: bool, page: int
    ) -> Iterator[Item]:
        """Read items of an index, page by page, as they are asked for."""
        ...


class RunUnknown(ImmortalError):
    """The ledger has no such run."""


class NotClaimable(ImmortalError):
    """The run is not there to be worked on: it has ended, or somebody else holds a valid claim."""


class LeaseLost(ImmortalError):
    """Somebody else holds the claim now, or the run was ended from outside: stop, nothing more can be recorded."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a run.

    Attributes:
        run: The run as it stood when the claim was taken.
        owner: Who took it; one name per process.
        fence: What every write under this claim must show.
    """

    run: Run
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt runs and where it logs."""

    task_arn: str = ""
    log_group: str = ""
    log_stream: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Runs on record. Every write is conditional, so that whoever comes late or twice changes nothing."""

    table: Table

    def create(self, run: Run) -> Run | None:
        """Record a new run.

        Returns:
            None when it was recorded; otherwise the run that was already there under this id.
        """
        try:
            self.table.put_new(to_item(run) | _expiry(run.status, run.ended_ms))
        except ConditionFailed as refusal:
            if refusal.item is None:
                return self.read(run.run_id)
            return from_item(refusal.item)
        return None

    def read(self, run_id: str) -> Run:
        """Read a run as it stands now.

        Raises:
            RunUnknown: There is none under this id.
        """
        item = self.table.get(_key(run_id))
        if item is None:
            raise RunUnknown(f"no run {run_id!r} on record. Next step: immortal runs ls")
        return from_item(item)

    def list(self, statuses: tuple[Status, ...] = STATUSES, *, page: int = 50) -> Iterator[Run]:
        """Give the runs of some statuses, newest change first."""
        streams = (self._by_status(status, page) for status in statuses)
        yield from merge(*streams, key=lambda run: run.updated_ms, reverse=True)

    def due(self, now_ms: int, *, page: int = 50) -> Iterator[str]:
        """Give the ids of runs that somebody must look at, longest overdue first: what is due, not what exists."""
        items = self.table.query(
            "due",
            "#due = :due AND due_at <= :now",
            {"#due": "due"},
            {":due": "due", ":now": now_ms},
            forward=True,
            page=page,
        )
        return (item["run_id"] for item in items)

    def waiting_like(self, run: Run, *, page: int = 25) -> Iterator[Run]:
        """Give pending runs of the same code, longest unchanged first, as the index shows them: it lags a little.

        There is no index for it: one would cost every run a write at each of its steps, whereas a task asks once after
        each run and as a rule finds the next on the first page. What stands behind ``LOOK_AT_MOST`` others is left to
        the task that is started for it.
        """
        looked_at = islice(self._by_status("pending", page, forward=True), LOOK_AT_MOST)
        return (waiting for waiting in looked_at if waiting.same_code_as(run))

    def held_by(self, task_arn: str, *, page: int = 100) -> Iterator[Run]:
        """Give the runs that a task holds, as the index shows them, among the ``LOOK_AT_MOST`` changed last."""
        looked_at = islice(self._by_status("processing", page), LOOK_AT_MOST)
        return (held for held in looked_at if held.task_arn == task_arn)

    def claim(self, run_id: str, *, owner: str, place: Place, now_ms: int, lease_ms: int) -> Claim:
        """Take the right to work on a run that is pending, or whose last owner let the lease run out before it began.

        A handler that has begun is never begun again by a task that happens to come by: how far it came is for the
        reconciler, a policy or a human to judge.

        Raises:
            NotClaimable: It has ended or is in other hands.
            RunUnknown: There is none under this id.
        """
        claimable = (
            "attribute_exists(run_id) AND (#status = :pending OR "
            "(#status = :processing AND lease_until < :now AND attribute_not_exists(handler_at)))"
        )
        return self._claim(run_id, claimable, {":launch": 0}, _claim_values(owner, place, now_ms, lease_ms))

    def take(self, run: Run, *, owner: str, place: Place, now_ms: int, lease_ms: int) -> Claim:
        """Take the right to work on a pending run, for a task that was not started for it.

        It counts as a launch: a run that every task fails to begin is not passed on among them for ever.

        Raises:
            NotClaimable: It is no longer as it was read.
            RunUnknown: It is gone.
        """
        as_read = "#status = :pending AND fence = :fence AND updated_at = :updated"
        values = {":launch": 1, ":fence": run.fence, ":updated": run.updated_ms}
        return self._claim(run.run_id, as_read, values, _claim_values(owner, place, now_ms, lease_ms))

    def heartbeat(self, claim: Claim, *, now_ms: int, lease_ms: int, handler_ms: int | None = None) -> None:
        """Hold the claim for another lease; with ``handler_ms``, also note when the handler was given its event.

        Raises:
            LeaseLost: The claim is no longer this one.
        """
        handler = {} if handler_ms is None else {"handler_at": handler_ms}
        self._own(
            claim, {"lease_until": now_ms + lease_ms, "due_at": now_ms + lease_ms, "updated_at": now_ms, **handler}
        )

    def note_log_stream(self, claim: Claim, place: Place) -> None:
        """Note where the attempt logs, once that is known.

        Raises:
            LeaseLost: The claim is no longer this one.
        """
        self._own(claim, {"log_group": place.log_group, "log_stream": place.log_stream})

    def complete(self, claim: Claim, *, result: Payload | None, now_ms: int, note: str = "") -> None:
        """Record the handler's result; None when it could not be stored, which the note then says.

        Raises:
            LeaseLost: The claim is no longer this one.
        """
        self._end(claim, "complete", now_ms, {"note": note, **(payload_members("result", result) if result else {})})

    def fail(
        self, claim: Claim, *, error: RunError, now_ms: int, partial: Payload | None = None, note: str = ""
    ) -> None:
        """Record that the code ran and failed for good.

        Args:
            partial: What it had written of its result before it failed, if anything; it becomes the run's result.

        Raises:
            LeaseLost: The claim is no longer this one.
        """
        said = {"type": error.error_type, "message": error.message, "stack_trace": list(error.stack_trace)}
        written = payload_members("result", partial) if partial else {}
        self._end(claim, "error", now_ms, {"note": note, "error": said, **written})

    def give_up(self, claim: Claim, *, reason: str, now_ms: int) -> None:
        """Park a run that is in our own hands.

        Raises:
            LeaseLost: The claim is no longer this one.
        """
        self._end(claim, "parked", now_ms, {"reason": reason})

    def release(self, claim: Claim, *, reason: str, now_ms: int) -> None:
        """Give a run back, unfinished, for another task to take.

        Raises:
            LeaseLost: The claim is no longer this one.
        """
        self._own(
            claim,
            {
                "status": "pending",
                "lease_until": 0,
                "due_at": now_ms,
                "updated_at": now_ms,
                "reason": reason,
                "owner": "",
            },
        )

    def postpone(self, run: Run, *, reason: str, due_at_ms: int, now_ms: int) -> None:
        """Note why a pending run was not launched and when to try again, unless it has moved on since it was read."""
        self._if_unchanged(run, {"reason": reason, "due_at": due_at_ms, "updated_at": now_ms})

    def note_refusal(self, run: Run, *, reason: str, due_at_ms: int, now_ms: int) -> None:
        """Note that ECS did not take the newest order, and when to try again, unless the run has moved on since.

        A letter that is delivered twice repeats its order: more are never refused than were made.
        """
        refusals = min(run.launches, run.refusals + 1)
        members = {"reason": reason, "refusals": refusals, "due_at": due_at_ms, "updated_at": now_ms}
        self._if_unchanged(run, members)

    def order_launch(self, run: Run, *, due_at_ms: int, now_ms: int) -> Run | None:
        """Count a further launch of a pending run, and say when it counts as lost.

        Returns:
            The run as it then stands; None when it has moved on since it was read, so that somebody else acts.
        """
        ordered = replace(run, launches=run.launches + 1, due_at_ms=due_at_ms, updated_ms=now_ms)
        members = {"launches": ordered.launches, "due_at": due_at_ms, "updated_at": now_ms}
        return ordered if self._if_unchanged(run, members) else None

    def take_up(self, parked: Run, anew: Run) -> bool:
        """Put what is now known of a parked run in the place of what was known, and make it pending.

        Returns:
            Whether this call took it up: False when it has moved on since it was read.
        """
        known = {name: value for name, value in to_item(anew).items() if name not in _KEPT}
        return self._if_unchanged(parked, known, remove=("reason", "ended_at", "expires_at"))

    def give_back(self, run: Run, *, reason: str, due_at_ms: int, now_ms: int) -> bool:
        """Take a run out of the hands of a task that is gone, for another to take, unless it has moved on.

        Returns:
            Whether this call gave it back.
        """
        waiting = {
            "status": "pending",
            "reason": reason,
            "updated_at": now_ms,
            "due_at": due_at_ms,
            "lease_until": 0,
            "owner": "",
        }
        return self._if_unchanged(run, waiting)

    def park(self, run: Run, *, reason: str, now_ms: int) -> bool:
        """Set a run aside from outside, unless it has moved on since it was read.

        Returns:
            Whether this call parked it.
        """
        ended = {
            "status": "parked",
            "reason": reason,
            "updated_at": now_ms,
            "ended_at": now_ms,
            "lease_until": 0,
            "owner": "",
        }
        return self._if_unchanged(run, ended | _expiry("parked", now_ms), remove=("due", "due_at"))

    def redrive(self, run: Run, *, now_ms: int) -> bool:
        """Make a parked or failed run pending and due now, as the function that it now names; its limits start anew.

        Returns:
            Whether this call did so: False when it is neither, or has moved on since it was read.
        """
        if run.status not in {"parked", "error"}:
            return False
        known = {"function": run.function, "function_arn": run.function_arn, "version": run.version}
        due = {"due": "due", "due_at": now_ms, "updated_at": now_ms, "launches": 0}
        ended = ("reason", "error", "result", "ended_at", "expires_at", "note", "refusals")
        return self._if_unchanged(run, {"status": "pending", **due, **known}, remove=ended)

    def _claim(self, run_id: str, condition: str, values: Item, claimed: Item) -> Claim:
        try:
            item = self.table.update(
                _key(run_id),
                "SET #status = :processing, #owner = :owner, lease_until = :lease, due_at = :lease, #due = :due, "
                "updated_at = :now, claimed_at = :now, task_arn = :task, log_group = :group, log_stream = :stream, "
                "fence = fence + :one, attempt = attempt + :one, launches = launches + :launch "
                "REMOVE reason, handler_at",
                condition,
                _NAMES | {"#due": "due"},
                {**claimed, **values},
            )
        except ConditionFailed as refusal:
            found = refusal.item
        else:
            run = from_item(item)
            return Claim(run, run.owner, run.fence)
        return _claimed_before(run_id, found, claimed[":owner"])

    def _by_status(self, status: Status, page: int, *, forward: bool = False) -> Iterator[Run]:
        items = self.table.query(
            "by_status", "#status = :status", {"#status": "status"}, {":status": status}, forward=forward, page=page
        )
        return (from_item(item) for item in items)

    def _own(self, claim: Claim, members: Item, remove: tuple[str, ...] = ()) -> None:
        expression, names, values = _assign(members, remove)
        own = {":processing": "processing", ":owner": claim.owner, ":fence": claim.fence}
        try:
            self.table.update(_key(claim.run.run_id), expression, _OWN, _NAMES | names, own | values)
        except ConditionFailed as refusal:
            if _came_through(refusal.item, claim, members):
                return
            raise LeaseLost(
                f"run {claim.run.run_id} is no longer in these hands: "
                + (
                    "it is gone"
                    if refusal.item is None
                    else f"{refusal.item['status']}, fence {refusal.item['fence']}, ours {claim.fence}"
                )
            ) from None

    def _end(self, claim: Claim, status: Status, now_ms: int, members: Item) -> None:
        ended = {
            "status": status,
            "updated_at": now_ms,
            "ended_at": now_ms,
            "lease_until": 0,
            **members,
            **_expiry(status, now_ms),
        }
        stale = () if "reason" in members else ("reason",)
        self._own(claim, ended, remove=("due", "due_at", *stale))

    def _if_unchanged(self, run: Run, members: Item, remove: tuple[str, ...] = ()) -> bool:
        if "status" in members and members["status"] not in TRANSITIONS[run.status]:
            return False
        expression, names, values = _assign(members, remove)
        try:
            self.table.update(
                _key(run.run_id),
                expression,
                "#status = :was AND fence = :fence AND launches = :launches",
                {"#status": "status"} | names,
                {":was": run.status, ":fence": run.fence, ":launches": run.launches} | values,
            )
        except ConditionFailed:
            return False
        return True


def _key(run_id: str) -> dict[str, str]:
    return {"run_id": run_id, "part": "run"}


def _claim_values(owner: str, place: Place, now_ms: int, lease_ms: int) -> dict[str, Any]:
    return {
        ":processing": "processing",
        ":pending": "pending",
        ":owner": owner,
        ":lease": now_ms + lease_ms,
        ":due": "due",
        ":now": now_ms,
        ":task": place.task_arn,
        ":group": place.log_group,
        ":stream": place.log_stream,
        ":one": 1,
    }


def _claimed_before(run_id: str, item: Item | None, owner: str) -> Claim:
    """The claim, if this very write came through before and only its answer was lost.

    Raises:
        NotClaimable: It is in other hands, or not there to be worked on.
        RunUnknown: It is gone.
    """
    if item is None:
        raise RunUnknown(f"no run {run_id!r} on record")
    run = from_item(item)
    if run.status == "processing" and run.owner == owner:
        return Claim(run, owner, run.fence)
    raise NotClaimable(f"run {run_id} is {run.status}{' in other hands' if run.status == 'processing' else ''}")


def _expiry(status: Status, ended_ms: int) -> dict[str, int]:
    """When a record may go; a parked run waits for its human, however long that takes."""
    return {"expires_at": ended_ms // 1000 + RETENTION_S} if status in ENDED - {"parked"} else {}


def _assign(members: Item, remove: tuple[str, ...]) -> tuple[str, dict[str, str], dict[str, Any]]:
    names = {f"#m{at}": name for at, name in enumerate((*members, *remove))}
    values = {f":m{at}": value for at, value in enumerate(members.values())}
    sets = ", ".join(f"#m{at} = :m{at}" for at in range(len(members)))
    removes = ", ".join(f"#m{at}" for at in range(len(members), len(names)))
    return f"SET {sets}" + (f" REMOVE {removes}" if remove else ""), names, values


def _came_through(item: Item | None, claim: Claim, members: Item) -> bool:
    """Whether this very write came through before and only its answer was lost."""
    if item is None or item["fence"] != claim.fence or "status" not in members:
        return False
    return all(item.get(name) == value for name, value in members.items())
