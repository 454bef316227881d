from dataclasses import replace

import pytest

from immortal_dispatcher.decide import (
    REASON_BYTES,
    START_GRACE_MS,
    Launch,
    NextStep,
    Park,
    Postpone,
    after_due,
    draft_run,
    draft_unreadable,
    next_step,
)
from immortal_dispatcher.launch import LAUNCHES_AT_MOST, Refused, explain_wait
from immortal_dispatcher.resolve import Found, Unresolved
from immortal_lambda.failures import MESSAGE_BYTES
from immortal_lambda.letters import read_delivery, read_letter
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run, Status
from support.letters import QUEUE, function_arn, record

NOW = 1_800_000_000_000
FOUND = Found(function_arn("job"), "$LATEST", "the only one")


def drafted(finding: Found | Unresolved = FOUND, *, message: str = "Task timed out after 3.00 seconds") -> Run:
    letter = read_letter(record(request_id="r-1", message=message))
    return draft_run(letter, finding, event=Inline(b"{}"), now_ms=NOW)


def test_a_found_function_makes_a_pending_run_that_is_due_when_its_first_task_is_overdue() -> None:
    run = drafted()
    assert (run.run_id, run.status, run.function, run.version) == ("r-1", "pending", "job", "$LATEST")
    assert (run.launches, run.due_at_ms) == (1, NOW + START_GRACE_MS)
    assert run.origin is not None
    assert (run.origin.queue_arn, run.origin.found_by) == (QUEUE, "the only one")


def test_an_unresolved_letter_makes_a_parked_run_with_the_reason() -> None:
    run = drafted(Unresolved("nobody knows"))
    assert (run.status, run.reason, run.function_arn, run.due_at_ms) == ("parked", "nobody knows", "", 0)


def test_a_message_that_is_no_letter_is_named_by_its_own_id_and_kept() -> None:
    message = record("hello", attributes={})
    run = draft_unreadable(read_delivery(message), reason="no letter", event=Inline(b"hello"), now_ms=NOW)
    assert (run.run_id, run.status, run.event) == (message["messageId"], "parked", Inline(b"hello"))


def test_a_failure_message_larger_than_the_ledgers_item_is_cut() -> None:
    run = drafted(message="é" * 500_000)
    assert run.failure is not None
    assert MESSAGE_BYTES - 4 < len(run.failure.message.encode()) <= MESSAGE_BYTES


def test_a_reason_larger_than_the_ledgers_item_is_cut() -> None:
    unresolved = drafted(Unresolved("é" * 500_000))
    unreadable = draft_unreadable(
        read_delivery(record()), reason="\ud800" + "é" * 500_000, event=Inline(b""), now_ms=NOW
    )
    for run in (unresolved, unreadable):
        assert REASON_BYTES - 4 < len(run.reason.encode()) <= REASON_BYTES


def recorded(status: Status, *, function_arn: str = "arn", letter_id: str = "another") -> Run:
    run = drafted()
    assert run.origin
    return replace(
        run,
        status=status,
        function_arn=function_arn,
        created_ms=NOW - 1,
        origin=replace(run.origin, letter_id=letter_id),
    )


@pytest.mark.parametrize(
    ("on_record", "redelivered", "step"),
    [
        pytest.param(None, False, "launch", id="new"),
        pytest.param(recorded("pending"), False, "nothing", id="a twin while the run waits"),
        pytest.param(recorded("pending"), True, "launch", id="redelivered before the launch was sure"),
        pytest.param(recorded("processing"), True, "nothing", id="redelivered while it runs"),
        pytest.param(recorded("complete"), True, "nothing", id="redelivered after the end"),
        pytest.param(recorded("error"), False, "nothing", id="a twin after the end"),
        pytest.param(recorded("parked", function_arn=""), False, "take_up", id="its twin could not be resolved"),
        pytest.param(recorded("parked"), False, "nothing", id="parked for another reason"),
    ],
)
def test_what_follows_depends_on_what_was_on_record(on_record: Run | None, redelivered: bool, step: NextStep) -> None:  # noqa: FBT001
    assert next_step(drafted(), on_record, redelivered=redelivered) == step


def test_a_parked_draft_never_launches_nor_takes_up() -> None:
    draft = drafted(Unresolved("nobody knows"))
    assert next_step(draft, None, redelivered=False) == "nothing"
    assert next_step(draft, recorded("parked", function_arn=""), redelivered=True) == "nothing"


def test_a_write_that_came_through_and_lost_its_answer_counts_as_this_one() -> None:
    draft = drafted()
    assert next_step(draft, draft, redelivered=False) == "launch"


MINUTE = 60_000
INTERRUPTED = "the task was stopped before the handler had finished"


def waiting(launches: int, *, minutes: int = 0, reason: str = INTERRUPTED, attempt: int = 1) -> Run:
    changed_ms = NOW - minutes * MINUTE
    return replace(drafted(), launches=launches, attempt=attempt, updated_ms=changed_ms, reason=reason, due_at_ms=NOW)


@pytest.mark.parametrize(
    ("run", "decision"),
    [
        pytest.param(waiting(0), Launch(), id="taken up by a human"),
        pytest.param(waiting(1), Launch(), id="given back once: at once"),
        pytest.param(waiting(2), Postpone(NOW + MINUTE), id="given back twice: after a minute"),
        pytest.param(waiting(2, minutes=1), Launch(), id="the minute is over"),
        pytest.param(waiting(4), Postpone(NOW + 4 * MINUTE), id="later and later"),
        pytest.param(waiting(9), Postpone(NOW + 15 * MINUTE), id="at most a quarter of an hour"),
        pytest.param(waiting(9, minutes=15), Launch(), id="the last launch"),
        pytest.param(waiting(3, minutes=10, reason="", attempt=0), Launch(), id="never claimed, its grace is over"),
        pytest.param(
            waiting(50, reason=explain_wait(Refused("capacity", "no room"), 50)), Launch(), id="refused costs nothing"
        ),
    ],
)
def test_a_run_that_is_due_is_launched_again_later_and_later(run: Run, decision: Launch | Postpone) -> None:
    assert after_due(run, now_ms=NOW) == decision


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        pytest.param(INTERRUPTED, INTERRUPTED, id="given back"),
        pytest.param("", "did not claim the run in time", id="never claimed"),
        pytest.param(explain_wait(Refused("capacity", "no room"), 9), "no room", id="an older order was refused"),
        pytest.param("x" * 100_000, "x…", id="a long last word"),
    ],
)
def test_a_run_launched_as_often_as_it_may_be_is_parked_and_says_why(reason: str, says: str) -> None:
    decision = after_due(waiting(LAUNCHES_AT_MOST, minutes=60, reason=reason, attempt=7), now_ms=NOW)
    assert isinstance(decision, Park)
    assert "launched 10 times without an outcome (attempts begun in all: 7)" in decision.reason
    assert says in decision.reason
    assert "Next step:" in decision.reason
    assert len(decision.reason) < REASON_BYTES


def test_a_postponed_run_is_launched_when_it_is_due_again() -> None:
    decision = after_due(waiting(5), now_ms=NOW)
    assert isinstance(decision, Postpone)
    postponed = replace(waiting(5), updated_ms=NOW, due_at_ms=decision.due_at_ms)
    assert after_due(postponed, now_ms=decision.due_at_ms) == Launch()
