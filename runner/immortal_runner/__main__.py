"""The task's entry point: ``python -m immortal_runner`` makes one attempt at the run that its environment names."""

import logging
import os
import secrets
import signal
import sys
import threading
import traceback

from immortal_lambda.aws import open_bucket, open_ledger
from immortal_lambda.errors import ImmortalError
from immortal_runner.attempt import Attempt
from immortal_runner.aws import AwsAccount
from immortal_runner.exit_codes import ExitCode
from immortal_runner.metadata import read_task_arn
from immortal_runner.runtimes.machine import this_machine
from immortal_runner.settings import BEATS_PER_LEASE, read_settings
from immortal_runner.stop import StopSignal


def main() -> int:
    """Make one attempt; give the task's exit code."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings show links, and a link to code is a secret
    try:
        settings = read_settings()
        watch_lifeline(settings.lifeline)
        threading.Thread(target=this_machine, name="machine", daemon=True).start()  # a look that would cost time later
        stop = StopSignal()
        signal.signal(signal.SIGTERM, lambda *_: stop.ask(settings.stop_grace_s))
        return Attempt(
            settings=settings,
            ledger=open_ledger(settings.ledger_table),
            pulse=open_ledger(settings.ledger_table, patience_s=settings.lease_s / BEATS_PER_LEASE),
            bucket=open_bucket(settings.payload_bucket),
            account=AwsAccount(),
            owner=f"runner-{secrets.token_hex(8)}",
            task_arn=read_task_arn(settings.metadata_uri),
            stop=stop,
        ).make()
    except ImmortalError as error:
        sys.stderr.write(f"{error}\n")
    except Exception:  # noqa: BLE001  # the outermost frame: whatever it is, the exit code must say that we broke
        traceback.print_exc()
    return ExitCode.BROKEN


def watch_lifeline(descriptor: int | None) -> None:
    """End at once when whoever started this task is gone: on one machine, nothing may be left behind."""
    if descriptor is None:
        return

    def watch() -> None:
        os.read(descriptor, 1)
        os._exit(ExitCode.BROKEN)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
