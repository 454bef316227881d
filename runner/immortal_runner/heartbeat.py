"""The claim on a run, held by a heartbeat while the handler works."""

import sys
import threading
import time
from collections.abc import Callable

from immortal_lambda.clock import now_ms
from immortal_lambda.ledger import Claim, LeaseLost, Ledger
from immortal_runner.settings import BEATS_PER_LEASE


class Heartbeat:
    """Renews a claim until it is told to stop.

    A ledger that can't be reached is asked again until the lease has run out; then the claim counts as lost, because
    another task may hold it.

    Args:
        ledger: Takes the handler's start, and is asked as often as that needs: all that was made ready depends on it.
        pulse: The same ledger, by calls that end well within a lease.
        on_lost: Called once, from the heartbeat's own thread, when the claim is lost.
    """

    def __init__(
        self, ledger: Ledger, pulse: Ledger, claim: Claim, *, lease_s: float, on_lost: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._pulse = pulse
        self._claim = claim
        self._lease_s = lease_s
        self._every_s = lease_s / BEATS_PER_LEASE
        self._on_lost = on_lost
        self._stopping = threading.Event()
        self._held_until = time.monotonic() + lease_s
        self.lost = False
        self.handler_noted = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def note_handler_start(self) -> None:
        """Put on record that the handler is given its event now; it must not be given it before that is on record.

        Raises:
            LeaseLost: The claim is no longer this one.
            ServiceUnavailable: The ledger can't be reached.
        """
        self.handler_noted = True
        self._renew(self._ledger, handler_ms=now_ms())

    def stop(self) -> None:
        """Beat no more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            if self._stopping.wait(self._every_s):
                return
            if not self._beat():
                self.lost = True
                self._on_lost()
                return

    def _beat(self) -> bool:
        """Beat once; False when the claim is lost."""
        try:
            self._renew(self._pulse)
        except LeaseLost:
            return False
        except Exception as error:  # noqa: BLE001  # whatever it is: a heart that stops in silence lets two tasks work
            sys.stderr.write(f"heartbeat of run {self._claim.run.run_id}: {type(error).__name__}: {error}\n")
        return time.monotonic() < self._held_until

    def _renew(self, ledger: Ledger, handler_ms: int | None = None) -> None:
        began = time.monotonic()
        lease_ms = round(self._lease_s * 1000)
        ledger.heartbeat(self._claim, now_ms=now_ms(), lease_ms=lease_ms, handler_ms=handler_ms)
        self._held_until = began + self._lease_s
