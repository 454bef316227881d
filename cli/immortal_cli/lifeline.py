"""The pipe that ties a local AWS to whoever started it: when its other end is gone, the local AWS stops."""

import os
import signal
import threading
import time
from collections.abc import MutableMapping
from contextlib import suppress

from immortal_cli.errors import Failed

VARIABLE = "IMMORTAL_LIFELINE_FD"
"""Names the descriptor of the pipe's reading end; the runner's is named likewise, so it must not be handed on."""

_AGAIN_S = 1.0


def watch_lifeline(environment: MutableMapping[str, str] = os.environ) -> None:
    """Stop this process as SIGTERM does once the lifeline ends; without one, watch nothing.

    Raises:
        Failed: The variable names no descriptor.
    """
    named = environment.pop(VARIABLE, "")
    if not named:
        return
    try:
        descriptor = int(named)
        os.set_inheritable(descriptor, False)  # noqa: FBT003  # its only form
    except (ValueError, OSError) as error:
        raise Failed(f"{VARIABLE}={named} is no descriptor. Next step: unset {VARIABLE}") from error
    threading.Thread(target=_wait_for_end, args=(descriptor,), name="lifeline", daemon=True).start()


def _wait_for_end(descriptor: int) -> None:
    with suppress(OSError):
        while os.read(descriptor, 1024):
            pass
    while True:  # one alone can be missed: Python's handlers run only once the main thread comes back from its wait
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_AGAIN_S)
