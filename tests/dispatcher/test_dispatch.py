import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from immortal_dispatcher.decide import START_GRACE_MS
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
    updates: bool = True

    def put_new(self, item: Item) -> None:
        if error := self.refused.get(item["run_id"]):
            raise error
        self.table.put_new(item)

    def update(self, *args: Any) -> Item:
        if not self.updates:
            raise ServiceUnavailable("dynamodb:UpdateItem")
        item: Item = self.table.update(*args)
        return item

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


def test_a_refusal_that_cannot_be_noted_is_told_and_the_run_stays_due_after_the_start_grace(
    account: FakeAccount, said: Said
) -> None:
    account.refusal = Refused("capacity", "no room")
    account.ledger = Ledger(BrokenTable(account.ledger.table, {}, updates=False))
    assert deliver(account, said, record(request_id="r-1")) == []
    run = account.ledger.read("r-1")
    assert (run.status, run.reason, run.due_at_ms) == ("pending", "", NOW + START_GRACE_MS)
    assert [line["run_id"] for line in said.lines if line["said"] == "reason not noted"] == ["r-1"]


def test_half_characters_in_a_message_are_kept_as_they_came(account: FakeAccount, said: Said) -> None:
    message = record("<\ud800>", attributes={})
    assert deliver(account, said, message, record('"\udfff"', request_id="r-1")) == []
    assert account.ledger.read(message["messageId"]).event == Inline(b"<\xed\xa0\x80>")
    assert account.ledger.read("r-1").event == Inline(b'"\xed\xbf\xbf"')


def test_a_message_whose_body_is_no_text_is_kept_all_the_same(account: FakeAccount, said: Said) -> None:
    message = record() | {"body": {"n": [7]}}
    assert deliver(account, said, message) == []
    run = account.ledger.read(message["messageId"])
    assert (run.status, run.event) == ("parked", Inline(b'{"n": [7]}'))


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
    batch: list[dict[str, Any]] = []
    fates: dict[str, Exception | None] = {}
    for kind, fate in letters:
        message = make_message(kind, batch)
        batch.append(message)
        fates.setdefault(
            run_id_of(message), {"ledger down": ServiceUnavailable("down"), "bug": KeyError("x")}.get(fate)
        )
    refused = {run_id: error for run_id, error in fates.items() if error}
    faulty = replace(account, ledger=Ledger(BrokenTable(account.ledger.table, refused)), refusal=refusal, orders=[])
    again = deliver(faulty, Said(), *batch)
    for message in batch:
        owned = recorded(account.ledger, run_id_of(message))
        assert (owned is None) == (message["messageId"] in again)
        if owned and owned.status == "pending":
            assert owned.due_at_ms > NOW
            assert faulty.launched.count(owned.run_id) == 1
    assert len(faulty.launched) == len(set(faulty.launched))


def make_message(kind: str, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    match kind:
        case "twin" if before:
            return {**before[-1], "messageId": record()["messageId"]}
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


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
MEBIBYTE = 1024 * 1024
LONG = st.builds(
    lambda unit, size: (unit * (size // len(unit) + 1))[:size],
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8) | st.just("a") | st.just("["),
    st.sampled_from([100, 20_000, 600_000, MEBIBYTE]),
)
STRANGE = JSON_VALUES | LONG | st.just("\ud800")
ARN = "arn:aws:lambda:eu-west-1:111122223333:function:job"
ARNS = st.sampled_from([ARN, f"{ARN}:$LATEST"]) | st.builds(lambda text: ARN.replace("eu-west-1", "e" + text), LONG)


def object_of(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object each of whose members may be missing, be what it should be, or be anything."""
    return st.fixed_dictionaries({}, optional={name: member | STRANGE for name, member in members.items()})


DESTINATIONS = object_of(
    requestContext=object_of(
        requestId=st.uuids().map(str),
        functionArn=ARNS,
        condition=st.sampled_from(["RetriesExhausted", "Success"]),
        approximateInvokeCount=st.integers(),
    ),
    requestPayload=JSON_VALUES,
    responseContext=object_of(executedVersion=st.just("7")),
    responsePayload=object_of(errorType=st.text(), errorMessage=LONG),
)
WHOLE = st.builds(
    lambda request_id, message, payload: {
        "requestContext": {"requestId": str(request_id), "functionArn": ARN},
        "requestPayload": payload,
        "responsePayload": {"errorMessage": message},
    },
    st.uuids(),
    LONG,
    JSON_VALUES | LONG,
)
RECORDS = st.fixed_dictionaries(
    {"body": (DESTINATIONS | WHOLE).map(json.dumps) | LONG | st.text()},
    optional={
        "attributes": object_of(
            SentTimestamp=st.just("1700000000000"),
            ApproximateReceiveCount=st.just("1"),
            SenderId=st.just("AROAJOBROLE:awslambda_1_2"),
            DeadLetterQueueSourceArn=st.just(QUEUE),
        )
        | STRANGE,
        "messageAttributes": object_of(
            RequestID=object_of(stringValue=st.uuids().map(str)),
            ErrorCode=object_of(stringValue=st.just("200")),
            ErrorMessage=object_of(stringValue=st.text()),
        )
        | STRANGE,
        "eventSourceARN": st.just(QUEUE) | STRANGE,
    },
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.booleans(), RECORDS)
def test_a_letter_of_any_content_ends_as_a_run(account: FakeAccount, proper: bool, strange: dict[str, Any]) -> None:  # noqa: FBT001
    message = (record(attributes={}) | strange) if proper else {"messageId": record()["messageId"]} | strange
    told = Said()
    assert deliver(account, told, message) == []
    (recorded_line,) = [line for line in told.lines if line["said"] == "recorded"]
    assert account.ledger.read(recorded_line["run_id"]).status == recorded_line["status"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"functionArn": "x" * 600_000}, id="an ARN that is none"),
        pytest.param({"functionArn": ARN.replace("eu-west-1", "e" * 600_000)}, id="an ARN with a long region"),
        pytest.param({"requestId": "é" * 500_000}, id="a request id"),
        pytest.param({"condition": "x" * 900_000}, id="a condition"),
    ],
)
def test_a_record_with_an_overlong_member_is_taken(account: FakeAccount, said: Said, changes: dict[str, str]) -> None:
    message = destination("r-overlong")
    body = json.loads(message["body"])
    body["requestContext"] |= changes
    assert deliver(account, said, message | {"body": json.dumps(body)}) == []


@pytest.mark.parametrize("version", ["9" * 900_000, "live", "../7", 7, None])
def test_an_executed_version_that_is_none_is_not_believed(account: FakeAccount, said: Said, version: object) -> None:
    message = destination("r-version")
    body = json.loads(message["body"]) | {"responseContext": {"executedVersion": version}}
    assert deliver(account, said, message | {"body": json.dumps(body)}) == []
    assert account.ledger.read("r-version").version == "$LATEST"


@pytest.mark.parametrize("letter_id", ["x" * 5_000, "../../etc", "a b", "\ud800"])
def test_a_message_with_a_strange_id_is_parked_under_a_name_made_of_it(
    account: FakeAccount, said: Said, letter_id: str
) -> None:
    assert deliver(account, said, record("?", attributes={}) | {"messageId": letter_id}) == []
    (line,) = [line for line in said.lines if line["said"] == "recorded"]
    assert len(line["run_id"]) == 64
    assert account.ledger.read(line["run_id"]).event == Inline(b"?")
