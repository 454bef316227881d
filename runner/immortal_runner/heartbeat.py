"""The claim on a run, held by a heartbeat while the handler works."""

import sys
import threading
import time
from collections.abc import Callable

from immortal_lambda.ledger import Claim, LeaseLost, Ledger
from immortal_runner.settings import BEATS_PER_LEASE


class Heartbeat:
    """Renews a claim until it is told to stop.

    A ledger that can't be reached is asked again until the lease has run out; then the claim counts as lost, because
    another task may hold it.

    Args:
        ledger: One whose calls end well within a lease.
        on_lost: Called once, from the heartbeat's own thread, when the claim is lost.
    """

    def __init__(self, ledger: Ledger, claim: Claim, *, lease_s: float, on_lost: Callable[[], None]) -> None:
        self._ledger = ledger
        self._claim = claim
        self._lease_s = lease_s
        self._every_s = lease_s / BEATS_PER_LEASE
        self._on_lost = on_lost
        self._handler_ms: int | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._held_until = time.monotonic() + lease_s
        self.lost = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def note_handler_start(self) -> None:
        """Note, with the next beat, which comes at once, that the handler was given its event now."""
        self._handler_ms = time.time_ns() // 1_000_000
        self._wake.set()

    def stop(self) -> None:
        """Beat no more."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._every_s)
            self._wake.clear()
            if self._stopping:
                return
            if not self._beat():
                self.lost = True
                self._on_lost()
                return

    def _beat(self) -> bool:
        """Beat once; False when the claim is lost."""
        began = time.monotonic()
        try:
            self._ledger.heartbeat(
                self._claim,
                now_ms=time.time_ns() // 1_000_000,
                lease_ms=round(self._lease_s * 1000),
                handler_ms=self._handler_ms,
            )
        except LeaseLost:
            return False
        except Exception as error:  # noqa: BLE001  # whatever it is: a heart that stops in silence lets two tasks work
            sys.stderr.write(f"heartbeat of run {self._claim.run.run_id}: {type(error).__name__}: {error}\n")
        else:
            self._held_until = began + self._lease_s
        return time.monotonic() < self._held_until
