"""Credentials that outlive any session: renewed for days, served while they hold, and never shown."""

import json
import threading
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immortal_lambda.errors import ServiceUnavailable
from immortal_runner.execution import credentials as module
from immortal_runner.execution.credentials import (
    RENEW_BEFORE,
    CredentialsLate,
    EndpointCredentials,
    StaticCredentials,
    TemporaryCredentials,
)
from immortal_runner.execution.outcomes import Returned
from immortal_runner.runtime_api.invocations import Invocation
from support.functions import ARN, Environments

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HOUR = timedelta(hours=1)


def lasting(minutes: float, name: str = "ASIA1", *, now: datetime = NOW) -> TemporaryCredentials:
    return TemporaryCredentials(name, "secret-key", "secret-token", now + timedelta(minutes=minutes))


class Sts:
    """A service that gives an hour, unless it is down; and the clock that everybody looks at."""

    def __init__(self) -> None:
        self.now = NOW
        self.down = False
        self.asked = 0
        self._names = count(1)

    def renew(self) -> TemporaryCredentials:
        self.asked += 1
        if self.down:
            raise ServiceUnavailable("STS is away")
        return lasting(60, f"ASIA{next(self._names)}", now=self.now)

    def clock(self) -> datetime:
        return self.now


@settings(deadline=None)  # each renewal starts a thread, and the machine may be busy
@given(steps=st.lists(st.tuples(st.integers(0, 7200), st.booleans()), max_size=60))
def test_for_days_and_through_outages_credentials_last_a_while_yet_or_as_long_as_can_be(
    steps: list[tuple[int, bool]],
) -> None:
    sts = Sts()
    credentials = EndpointCredentials(sts.renew, clock=sts.clock)
    for wait_s, down in steps:
        sts.now += timedelta(seconds=wait_s)
        sts.down = down
        try:
            found = credentials.current()
        except ServiceUnavailable:
            assert down
            continue
        left = found.expiration - sts.now
        assert left > timedelta()
        if not down and left < RENEW_BEFORE:  # it was down a moment ago: the next look after that finds new ones
            sts.now += module.RENEW_AGAIN_AFTER
            assert credentials.current().expiration - sts.now > RENEW_BEFORE


def test_credentials_that_can_not_be_renewed_serve_until_they_expire() -> None:
    sts = Sts()
    credentials = EndpointCredentials(sts.renew, clock=sts.clock)
    sts.down = True
    sts.now = NOW + timedelta(minutes=59)
    assert credentials.current().access_key_id == "ASIA1"
    sts.now = NOW + HOUR
    with pytest.raises(ServiceUnavailable):
        credentials.current()
    sts.down = False
    assert credentials.current().access_key_id == "ASIA2"


def test_new_credentials_that_have_expired_already_are_neither_served_nor_shown() -> None:
    given = iter([lasting(1, "ASIA1"), lasting(1, "ASIA2")])
    sts = Sts()
    credentials = EndpointCredentials(lambda: next(given), clock=sts.clock)
    sts.now = NOW + HOUR
    with pytest.raises(CredentialsLate, match="have expired already") as refusal:
        credentials.current()
    assert "ASIA2" not in str(refusal.value)


def test_a_service_that_is_down_is_not_asked_before_each_call_of_a_handler() -> None:
    sts = Sts()
    credentials = EndpointCredentials(sts.renew, clock=sts.clock)
    sts.down = True
    sts.now = NOW + timedelta(minutes=50)
    for _ in range(100):
        credentials.current()
    assert sts.asked == 2


def test_a_service_that_hangs_holds_nobody_up_while_the_last_credentials_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    monkeypatch.setattr(module, "LAST_PATIENCE_S", 0.01)
    sts, answer = Sts(), threading.Event()

    def renew() -> TemporaryCredentials:
        if sts.asked:
            assert answer.wait(10)
        return sts.renew()

    credentials = EndpointCredentials(renew, clock=sts.clock)
    sts.now = NOW + timedelta(minutes=50)
    assert credentials.current().access_key_id == "ASIA1"
    sts.now = NOW + HOUR
    with pytest.raises(CredentialsLate):
        credentials.current()
    answer.set()
    monkeypatch.setattr(module, "LAST_PATIENCE_S", 10)
    assert credentials.current().access_key_id == "ASIA2"
    assert sts.asked == 2


def test_many_calls_at_once_renew_once() -> None:
    sts = Sts()
    credentials = EndpointCredentials(sts.renew, clock=sts.clock)
    sts.now = NOW + timedelta(minutes=50)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(credentials.current().access_key_id)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (set(found), sts.asked) == ({"ASIA2"}, 2)


@pytest.mark.conformance(52)
def test_an_sdk_goes_on_through_an_outage_and_finds_new_credentials_after_it(environments: Environments) -> None:
    given_out = [timedelta(minutes=12), None, HOUR]
    made = count(1)

    def renew() -> TemporaryCredentials:
        length = given_out.pop(0)
        if length is None:
            raise ServiceUnavailable("STS is away")
        return TemporaryCredentials(f"ASIA{next(made)}", "secret", "session", datetime.now(UTC) + length)

    later = [timedelta()]
    environment = environments(
        "import boto3\n"
        "found = boto3.Session().get_credentials()\n"
        "def handler(event, context): return found.get_frozen_credentials().access_key",
        credentials=EndpointCredentials(renew, clock=lambda: datetime.now(UTC) + later[0]),
    )

    def ask() -> str:
        outcome = environment.invoke(Invocation("id", b"{}", ARN), timeout_s=None)
        assert isinstance(outcome, Returned), outcome
        return str(json.loads(outcome.result.read()))

    assert ask() == "ASIA1"
    later[0] = module.RENEW_AGAIN_AFTER
    assert ask() == "ASIA2"


def test_secrets_are_not_shown() -> None:
    shown = repr([lasting(60), StaticCredentials("AKIA", "secret-key", "secret-token")])
    assert "secret" not in shown.replace("secret_access_key", "")
