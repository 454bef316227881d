from dataclasses import replace

import pytest

from immortal_dispatcher.decide import MESSAGE_CHARS, START_GRACE_MS, NextStep, draft_run, draft_unreadable, next_step
from immortal_dispatcher.resolve import Found, Unresolved
from immortal_lambda.letters import read_letter
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
    run = draft_unreadable(message, reason="no letter", event=Inline(b"hello"), now_ms=NOW)
    assert (run.run_id, run.status, run.event) == (message["messageId"], "parked", Inline(b"hello"))


def test_a_failure_message_larger_than_the_ledgers_item_is_cut() -> None:
    run = drafted(message="x" * 500_000)
    assert run.failure is not None
    assert len(run.failure.message) == MESSAGE_CHARS


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
