"""The dispatcher's shell: carries out what is decided, letter by letter."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from immortal_dispatcher.decide import draft_run, draft_unreadable, next_step
from immortal_dispatcher.launch import Refused, Started, explain_wait, wait_ms
from immortal_dispatcher.resolve import Directory, resolve
from immortal_dispatcher.speak import Say, describe_error
from immortal_lambda.errors import ImmortalError
from immortal_lambda.ledger import Ledger
from immortal_lambda.letters import DeadLetter, LetterUnreadable, read_delivery, read_letter
from immortal_lambda.payloads import Bucket, keep
from immortal_lambda.runs import Run

Clock = Callable[[], int]
"""Gives the time, Unix milliseconds."""


class Account(Directory, Protocol):
    """All that the dispatcher asks of AWS. ``aws.py`` asks boto3; the tests ask a fake."""

    @property
    def ledger(self) -> Ledger:
        """Where runs are recorded."""
        ...

    @property
    def bucket(self) -> Bucket:
        """Where large events go."""
        ...

    def launch(self, run: Run) -> Started | Refused:
        """Order a task for a run; whatever ECS answers is a value."""
        ...


def dispatch(records: Iterable[Mapping[str, Any]], account: Account, *, clock: Clock, say: Say) -> list[str]:
    """Carry out what becomes of each message of a batch.

    A message counts as done only when the ledger owns its run; one message never touches another.

    Returns:
        The ids of the messages that the queue must deliver again.
    """
    return [record["messageId"] for record in records if not _owned(record, account, clock, say)]


def carry_out_launch(run: Run, account: Account, *, now_ms: int, say: Say) -> Started | Refused:
    """Order a task for a recorded run; a refusal is noted in the run, which is due again later."""
    answer = account.launch(run)
    match answer:
        case Started(task_arn):
            say("launched", run_id=run.run_id, letter_id=_letter_id(run), task_arn=task_arn, launch=run.launches)
        case Refused(cause, reason):
            say("waits", run_id=run.run_id, letter_id=_letter_id(run), cause=cause, reason=reason, launch=run.launches)
            _note_refusal(run, answer, account.ledger, now_ms, say)
    return answer


def _owned(record: Mapping[str, Any], account: Account, clock: Clock, say: Say) -> bool:
    letter_id = record["messageId"]
    try:
        _take(record, account, clock(), say)
    except Exception as error:  # noqa: BLE001  # whatever befalls one letter must not befall its neighbours
        say("given back", letter_id=letter_id, **describe_error(error))
        return False
    return True


def _take(record: Mapping[str, Any], account: Account, now_ms: int, say: Say) -> None:
    drafted = _draft(record, account, now_ms)
    recorded = account.ledger.create(drafted)
    step = next_step(drafted, recorded, redelivered=read_delivery(record).deliveries > 1)
    say("recorded", letter_id=record["messageId"], run_id=drafted.run_id, status=drafted.status, next_step=step)
    run = recorded or drafted
    if step == "take_up":
        step, run = ("launch" if account.ledger.take_up(run, drafted) else "nothing"), drafted
    if step == "launch":
        carry_out_launch(run, account, now_ms=now_ms, say=say)


def _draft(record: Mapping[str, Any], account: Account, now_ms: int) -> Run:
    try:
        letter = read_letter(record)
    except LetterUnreadable as error:
        delivery = read_delivery(record)
        event = keep(_encode(delivery.body), name=f"{delivery.letter_id}/event", bucket=account.bucket)
        return draft_unreadable(delivery, reason=str(error), event=event, now_ms=now_ms)
    return _draft_letter(letter, account, now_ms)


def _draft_letter(letter: DeadLetter, account: Account, now_ms: int) -> Run:
    finding = resolve(letter, account)
    event = keep(_encode(letter.event), name=f"{letter.request_id}/event", bucket=account.bucket)
    return draft_run(letter, finding, event=event, now_ms=now_ms)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _note_refusal(run: Run, refused: Refused, ledger: Ledger, now_ms: int, say: Say) -> None:
    due_at_ms = now_ms + wait_ms(refused.cause, run.launches)
    try:
        ledger.note_refusal(run, reason=explain_wait(refused, run.launches), due_at_ms=due_at_ms, now_ms=now_ms)
    except ImmortalError as error:
        # The ledger owns the run already: it is due after the start grace, only the reason is lost.
        say("reason not noted", run_id=run.run_id, letter_id=_letter_id(run), **describe_error(error))


def _letter_id(run: Run) -> str | None:
    return run.origin.letter_id if run.origin else None
