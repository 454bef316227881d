import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from immortal_dispatcher.dispatch import dispatch
from immortal_dispatcher.launch import Refused
from immortal_lambda.errors import AccessRefused, ServiceUnavailable
from immortal_lambda.ledger import Item, Ledger, RunUnknown
from immortal_lambda.payloads import Inline, Stored, fetch
from immortal_lambda.runs import Run
from support.accounts import FakeAccount, Said
from support.letters import QUEUE, candidate, record

NOW = 1_800_000_000_000


def deliver(account: FakeAccount, said: Said, *records: Mapping[str, Any], now_ms: int = NOW) -> list[str]:
    return dispatch(records, account, clock=lambda: now_ms, say=said)


def destination(request_id: str, function: str = "job") -> dict[str, Any]:
    body = {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"arn:aws:lambda:eu-west-1:111122223333:function:{function}:$LATEST",
            "condition": "RetriesExhausted",
        },
        "requestPayload": {"n": 7},
        "responsePayload": {"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 3.00 seconds"},
    }
    return record(json.dumps(body), attributes={})


@dataclass
class BrokenTable:
    """A table that refuses to write the runs that it is told to."""

    table: Any
    refused: Mapping[str, Exception]

    def put_new(self, item: Item) -> None:
        if error := self.refused.get(item["run_id"]):
            raise error
        self.table.put_new(item)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.table, name)


def test_a_letter_becomes_a_run_and_the_run_a_task(account: FakeAccount, said: Said) -> None:
    again = deliver(account, said, record('{"n":  7}', request_id="r-1"))
    run = account.ledger.read("r-1")
    assert again == []
    assert (run.status, run.function, run.event) == ("pending", "job", Inline(b'{"n":  7}'))
    assert account.launched == ["r-1"]


def test_an_event_too_large_for_the_ledger_is_kept_in_the_bucket(account: FakeAccount, said: Said) -> None:
    event = json.dumps({"data": "x" * 100_000})
    deliver(account, said, record(event, request_id="r-1"))
    run = account.ledger.read("r-1")
    assert isinstance(run.event, Stored)
    assert run.event.key.startswith("runs/r-1/event/")
    assert fetch(run.event, account.bucket) == event.encode()


def test_a_message_delivered_twice_in_one_batch_starts_one_task(account: FakeAccount, said: Said) -> None:
    letter = record(request_id="r-1")
    assert deliver(account, said, letter, letter) == []
    assert len({order["clientToken"] for order in account.orders}) == 1


def test_a_dead_letter_and_its_destination_record_meet_in_one_run(account: FakeAccount, said: Said) -> None:
    assert deliver(account, said, record(request_id="r-1"), destination("r-1")) == []
    assert account.launched == ["r-1"]


def test_a_redelivered_letter_whose_run_still_waits_is_ordered_again_under_the_same_token(
    account: FakeAccount, said: Said
) -> None:
    letter = record(request_id="r-1")
    deliver(account, said, letter)
    deliver(account, said, letter | {"attributes": letter["attributes"] | {"ApproximateReceiveCount": "2"}})
    first, second = account.orders
    assert first == second


def test_a_run_whose_dead_letter_could_not_be_resolved_is_taken_up_when_its_destination_record_comes(
    account: FakeAccount, said: Said
) -> None:
    account.functions = {}
    deliver(account, said, record(request_id="r-1"))
    assert account.ledger.read("r-1").status == "parked"
    deliver(account, said, destination("r-1"), now_ms=NOW + 5)
    run = account.ledger.read("r-1")
    assert (run.status, run.function, run.reason, run.ended_ms) == ("pending", "job", "", 0)
    assert (run.created_ms, run.updated_ms) == (NOW, NOW + 5)
    assert account.launched == ["r-1"]
    assert list(account.ledger.due(run.due_at_ms)) == ["r-1"]


def test_an_ambiguous_letter_is_parked_with_the_candidates_and_its_event(account: FakeAccount, said: Said) -> None:
    shared = [candidate("a", "shared"), candidate("b", "shared")]
    account.functions = {QUEUE: shared}
    account.role_ids = {shared[0].role_arn: "AROAJOBROLE"}
    assert deliver(account, said, record('{"n":1}', request_id="r-1")) == []
    run = account.ledger.read("r-1")
    assert run.status == "parked"
    assert "a, b" in run.reason
    assert run.event == Inline(b'{"n":1}')
    assert account.launched == []


def test_an_unreadable_message_is_parked_under_its_own_id_with_its_body(account: FakeAccount, said: Said) -> None:
    message = record("<what?>", attributes={})
    assert deliver(account, said, message) == []
    run = account.ledger.read(message["messageId"])
    assert (run.status, run.event) == ("parked", Inline(b"<what?>"))
    assert "no record of a failed invocation" in run.reason


def test_a_refused_launch_leaves_a_pending_run_with_reason_and_due_time(account: FakeAccount, said: Said) -> None:
    account.refusal = Refused("capacity", "Capacity is unavailable at this time")
    assert deliver(account, said, record(request_id="r-1")) == []
    run = account.ledger.read("r-1")
    assert run.status == "pending"
    assert "Capacity is unavailable" in run.reason
    assert run.due_at_ms == NOW + 60_000
    assert list(account.ledger.due(run.due_at_ms)) == ["r-1"]


def test_only_the_letter_that_the_ledger_refused_goes_back(account: FakeAccount, said: Said) -> None:
    account.ledger = Ledger(BrokenTable(account.ledger.table, {"r-2": ServiceUnavailable("dynamodb:PutItem")}))
    letters = [record(request_id=f"r-{number}") for number in (1, 2, 3)]
    assert deliver(account, said, *letters) == [letters[1]["messageId"]]
    assert account.launched == ["r-1", "r-3"]


def test_a_bug_in_one_letter_touches_no_other_and_is_told_with_the_letters_id(account: FakeAccount, said: Said) -> None:
    account.ledger = Ledger(BrokenTable(account.ledger.table, {"r-1": ZeroDivisionError("secret event")}))
    letters = [record(request_id="r-1"), record(request_id="r-2")]
    assert deliver(account, said, *letters) == [letters[0]["messageId"]]
    assert account.launched == ["r-2"]
    told = [line for line in said.lines if line["said"] == "given back"]
    assert [line["letter_id"] for line in told] == [letters[0]["messageId"]]
    assert "ZeroDivisionError" in json.dumps(told)
    assert "secret event" not in json.dumps(said.lines)


def test_a_role_that_may_not_list_functions_parks_the_letter_and_names_the_right(
    account: FakeAccount, said: Said
) -> None:
    account.listing_error = AccessRefused("lambda:ListFunctions was refused")
    assert deliver(account, said, record(request_id="r-1")) == []
    assert "lambda:ListFunctions" in account.ledger.read("r-1").reason


def test_a_directory_that_is_down_gives_the_letter_back(account: FakeAccount, said: Said) -> None:
    account.listing_error = ServiceUnavailable("lambda:ListFunctions")
    letter = record(request_id="r-1")
    assert deliver(account, said, letter) == [letter["messageId"]]


def test_the_log_never_holds_an_event(account: FakeAccount, said: Said) -> None:
    deliver(account, said, record('{"password": "hunter2"}'), record("hunter2", attributes={}))
    assert said.lines
    assert "hunter2" not in json.dumps(said.lines)


LETTERS = st.lists(
    st.tuples(
        st.sampled_from(["letter", "twin", "destination", "unreadable", "unresolved"]),
        st.sampled_from(["fine", "ledger down", "bug"]),
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LETTERS, st.sampled_from([None, Refused("capacity", "no room"), Refused("refused", "no right")]))
def test_no_letter_is_lost_whatever_happens(
    account: FakeAccount, letters: list[tuple[str, str]], refusal: Refused | None
) -> None:
    batch, fates = [], {}
    for kind, fate in letters:
        message = make_message(kind)
        run_id = run_id_of(message)
        batch.append(message)
        fates[run_id] = {"ledger down": ServiceUnavailable("down"), "bug": KeyError("x")}.get(fate)
    refused = {run_id: error for run_id, error in fates.items() if error}
    faulty = replace(account, ledger=Ledger(BrokenTable(account.ledger.table, refused)), refusal=refusal, orders=[])
    again = deliver(faulty, Said(), *batch)
    for message in batch:
        owned = recorded(account.ledger, run_id_of(message))
        assert (owned is None) == (message["messageId"] in again)
        if owned and owned.status == "pending":
            assert owned.due_at_ms > NOW


def make_message(kind: str) -> dict[str, Any]:
    match kind:
        case "destination":
            fresh = record()["messageId"]
            return destination(f"request-{fresh}")
        case "unreadable":
            return record("?", attributes={})
        case "unresolved":
            return record(sender="AROANOBODY:awslambda_1_2")
        case _:
            return record()


def run_id_of(message: Mapping[str, Any]) -> str:
    attributes = message["messageAttributes"]
    if attributes:
        return str(attributes["RequestID"]["stringValue"])
    if message["body"] == "?":
        return str(message["messageId"])
    return str(json.loads(message["body"])["requestContext"]["requestId"])


def recorded(ledger: Ledger, run_id: str) -> Run | None:
    try:
        return ledger.read(run_id)
    except RunUnknown:
        return None
