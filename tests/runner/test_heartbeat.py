"""A claim is held while the ledger answers, and counts as lost once it can't be known to be held."""

import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from immortal_lambda.errors import AccessRefused, ServiceUnavailable
from immortal_lambda.ledger import Claim, LeaseLost, Ledger
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run
from immortal_runner.heartbeat import Heartbeat

CLAIM = Claim(Run("r-1", "rerun", "processing", Inline(b""), 0, 0), "owner", 1)


class Pulse:
    """A ledger as far as a heartbeat sees it: notes the beats, fails as told."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.beats: list[dict[str, Any]] = []
        self.beaten = threading.Semaphore(0)

    def heartbeat(self, claim: Claim, **about: Any) -> None:
        assert claim is CLAIM
        self.beats.append(about)
        self.beaten.release()
        failure = self.failures.pop(0) if self.failures else None
        if failure:
            raise failure


@pytest.fixture
def started() -> Iterator[list[Heartbeat]]:
    started: list[Heartbeat] = []
    yield started
    for each in started:
        each.stop()


def start(
    started: list[Heartbeat], pulse: Pulse, lease_s: float, ledger: Pulse | None = None
) -> tuple[Heartbeat, threading.Event]:
    lost = threading.Event()
    ledgers = cast("Ledger", ledger or Pulse()), cast("Ledger", pulse)
    heartbeat = Heartbeat(*ledgers, CLAIM, lease_s=lease_s, on_lost=lost.set)
    started.append(heartbeat)
    return heartbeat, lost


def test_it_beats_several_times_a_lease(started: list[Heartbeat]) -> None:
    pulse = Pulse()
    heartbeat, _ = start(started, pulse, lease_s=0.2)
    for _ in range(8):
        assert pulse.beaten.acquire(timeout=5)
    assert not heartbeat.lost
    assert {beat["lease_ms"] for beat in pulse.beats} == {200}


def test_the_handlers_start_is_noted_at_once_by_the_ledger_that_asks_more_than_once(started: list[Heartbeat]) -> None:
    ledger, impatient = Pulse(), Pulse(ServiceUnavailable("throttled"))
    heartbeat, _ = start(started, impatient, lease_s=3600, ledger=ledger)
    heartbeat.note_handler_start()
    assert abs(ledger.beats[0]["handler_ms"] / 1000 - time.time()) < 60


def test_a_start_that_can_not_be_noted_is_no_start(started: list[Heartbeat]) -> None:
    heartbeat, _ = start(started, Pulse(), lease_s=3600, ledger=Pulse(ServiceUnavailable("down")))
    with pytest.raises(ServiceUnavailable):
        heartbeat.note_handler_start()


def test_a_claim_that_is_taken_away_is_lost_at_once(started: list[Heartbeat]) -> None:
    heartbeat, lost = start(started, Pulse(LeaseLost("taken")), lease_s=0.2)
    assert lost.wait(5)
    assert heartbeat.lost


@pytest.mark.parametrize("failure", [ServiceUnavailable("down"), AccessRefused("no"), RuntimeError("odd")], ids=repr)
def test_one_beat_that_fails_is_no_loss(started: list[Heartbeat], failure: Exception) -> None:
    pulse = Pulse(failure)
    heartbeat, lost = start(started, pulse, lease_s=2)
    for _ in range(3):
        assert pulse.beaten.acquire(timeout=5)
    assert not lost.is_set()
    assert not heartbeat.lost


@pytest.mark.parametrize("failure", [ServiceUnavailable("down"), AccessRefused("no"), RuntimeError("odd")], ids=repr)
def test_a_lease_that_nobody_could_renew_is_lost(started: list[Heartbeat], failure: Exception) -> None:
    heartbeat, lost = start(started, Pulse(*[failure] * 100), lease_s=0.2)
    assert lost.wait(5)
    assert heartbeat.lost
