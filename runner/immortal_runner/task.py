"""One task: the run that it was started for, then others that wait for the same function."""

import random
import sys
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from time import monotonic

from immortal_lambda.clock import now_ms
from immortal_lambda.ledger import Claim, Ledger, NotClaimable, Place, RunUnknown
from immortal_lambda.payloads import Bucket
from immortal_lambda.runs import Run
from immortal_runner.attempt import Attempt
from immortal_runner.drain import may_take_another
from immortal_runner.exit_codes import ExitCode
from immortal_runner.metadata import TaskMetadata
from immortal_runner.settings import Settings
from immortal_runner.stop import StopSignal
from immortal_runner.workplace import Account, Workplace

CANDIDATES = 20
"""Of how many waiting runs one is taken: tasks that drain side by side rarely reach for the same one."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one task works with.

    Attributes:
        pulse: The same ledger, by calls that end well within a lease: the heartbeat's.
        owner: Names this process in the ledger.
    """

    settings: Settings
    ledger: Ledger
    pulse: Ledger
    bucket: Bucket
    account: Account
    owner: str
    metadata: TaskMetadata
    stop: StopSignal

    def work(self) -> ExitCode:
        """Make one attempt at the task's own run, then one at each that it takes after it.

        Returns:
            What the task exits with: the family of its own run's outcome. Everything else is in the ledger.
        """
        began = monotonic()
        try:
            claim = self.ledger.claim(
                self.settings.run_id,
                owner=self.owner,
                place=Place(task_arn=self.metadata.arn),
                now_ms=now_ms(),
                lease_ms=self._lease_ms,
            )
        except (NotClaimable, RunUnknown) as refusal:
            _say(f"nothing to do: {refusal}")
            return ExitCode.NOTHING_TO_DO
        with closing(Workplace(self.settings, self.account, self.metadata, self.stop)) as workplace:
            own = self._attempt(claim, workplace)
            self._drain(claim.run, own, workplace, until=began + self.settings.drain_s)
        return own

    @property
    def _lease_ms(self) -> int:
        return round(self.settings.lease_s * 1000)

    def _attempt(self, claim: Claim, workplace: Workplace) -> ExitCode:
        return Attempt(self.settings, self.ledger, self.pulse, self.bucket, self.stop, workplace).make(claim)

    def _drain(self, own: Run, code: ExitCode, workplace: Workplace, *, until: float) -> None:
        """Take one run after the other that waits for the same function, while that is of use."""
        for taken in range(self.settings.drain_runs):
            if not may_take_another(code, stopping=self.stop.asked, late=monotonic() >= until):
                return
            claim = self._take_another(own, workplace)
            if claim is None:
                return
            code = self._attempt(claim, workplace)
            _say(f"run {claim.run.run_id}, taken after {taken + 1} others of this task: {code.name}")

    def _take_another(self, own: Run, workplace: Workplace) -> Claim | None:
        """Claim a run that waits for the same function; None where there is none to be had.

        First the runs, then the function, then the claim: a run that was redriven because its function was mended is
        never given to the function as it was before.
        """
        try:
            waiting = list(islice(self.ledger.waiting_like(own), CANDIDATES))
            if not waiting or not workplace.serves(own, datetime.now(UTC)):
                return None
            random.shuffle(waiting)
            for run in waiting:
                if self.stop.asked:
                    return None
                with suppress(NotClaimable, RunUnknown):
                    return self._take(run, workplace)
        except Exception as error:  # noqa: BLE001  # whatever it is: its own run is on record, and an idle claim ends
            _say(f"no other run is taken: {type(error).__name__}: {error}")
        return None

    def _take(self, run: Run, workplace: Workplace) -> Claim:
        place = workplace.ready.place if workplace.ready else Place(self.metadata.arn)
        return self.ledger.take(run, owner=self.owner, place=place, now_ms=now_ms(), lease_ms=self._lease_ms)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
