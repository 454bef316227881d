"""The task's entry point: ``python -m immortal_runner`` works on the run that its environment names."""

import gc

gc.disable()  # until the task works: what it loads is no garbage, and the search would take a tenth of its start

import logging
import os
import secrets
import signal
import sys
import threading
import traceback

from immortal_lambda.aws import open_bucket, open_ledger
from immortal_lambda.errors import ImmortalError
from immortal_runner.aws import AwsAccount
from immortal_runner.execution.orphans import adopt_orphans
from immortal_runner.exit_codes import ExitCode
from immortal_runner.metadata import read_task
from immortal_runner.privacy import hide_memory
from immortal_runner.runtimes.machine import this_machine
from immortal_runner.settings import BEATS_PER_LEASE, read_settings
from immortal_runner.stop import StopSignal
from immortal_runner.task import Task


def main() -> int:
    """Do the task's work; give its exit code."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings show links, and a link to code is a secret
    hide_memory()
    adopt_orphans()
    try:
        settings = read_settings()
        watch_lifeline(settings.lifeline)
        threading.Thread(target=this_machine, name="machine", daemon=True).start()  # a look that would cost time later
        stop = StopSignal()
        signal.signal(signal.SIGTERM, lambda *_: stop.ask(settings.stop_grace_s))
        account = AwsAccount()
        task = Task(
            settings=settings,
            ledger=open_ledger(settings.ledger_table),
            pulse=open_ledger(settings.ledger_table, patience_s=settings.lease_s / BEATS_PER_LEASE),
            bucket=open_bucket(settings.payload_bucket),
            account=account,
            owner=f"runner-{secrets.token_hex(8)}",
            metadata=read_task(settings.metadata_uri),
            stop=stop,
        )
        threading.Thread(target=account.prepare, name="clients", daemon=True).start()
        gc.freeze()
        gc.enable()
        return task.work()
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
