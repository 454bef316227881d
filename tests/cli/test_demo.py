"""The demo: what it leaves behind, what it needs, and what it tells of a run that waits."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from immortal_cli.aws import open_account
from immortal_cli.demo.command import explain_no_result
from immortal_cli.demo.watch import Watch
from immortal_cli.state import find_word, state_file
from immortal_lambda.ledger import Ledger
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run
from support.commands import immortal

WITHIN_S = 60.0
RUN = Run("r-1", "rerun", "pending", Inline(b"{}"), 1_000, 2_000, function="job", function_arn="arn")
REFUSED = "launch 1 was not accepted (refused): there is no image"

Seen = TypeVar("Seen")


def eventually(look: Callable[[], Seen | None], what: str) -> Seen:
    deadline = time.monotonic() + WITHIN_S
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} within {WITHIN_S} s"
        time.sleep(0.05)
    return seen


def answers(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition("/")[2].partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_killed_leaves_no_local_aws_behind(number: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    file = state_file(environment)
    with subprocess.Popen(
        [sys.executable, "-m", "immortal_cli", "demo"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as demo:
        try:
            word = eventually(lambda: find_word(file), "the local AWS comes up")
            demo.send_signal(number)
            code = demo.wait(WITHIN_S)
        finally:
            demo.kill()
    assert code == (128 + number if number == signal.SIGTERM else -number)
    eventually(lambda: not answers(word["endpoint"]), "the local AWS stops")
    eventually(lambda: find_word(file) is None, "it ends in order")


@pytest.mark.usefixtures("docker_engine")
def test_an_image_that_the_engine_does_not_have_is_told_before_anything_starts() -> None:
    answer = immortal("demo", "--engine", "docker", "--image", "immortal-nobody-built-this:1")
    assert answer.code == 1
    assert answer.out == ""
    assert "Next step: immortal image build --tag immortal-nobody-built-this:1" in answer.err


def test_a_reason_why_a_run_waits_is_told_as_it_appears_and_once(ledger: Ledger) -> None:
    watch = Watch(open_account(), ledger, "r-1", "/aws/lambda/job", 3)
    ledger.create(RUN)
    moments = watch.follow(WITHIN_S)
    told = [next(moments).text, next(moments).text]
    ledger.postpone(ledger.read("r-1"), reason=REFUSED, due_at_ms=9_000, now_ms=3_000)
    told.append(next(moments).text)
    ledger.park(ledger.read("r-1"), reason="no further", now_ms=4_000)
    told += [moment.text for moment in moments]
    assert [text for text in told if REFUSED in text] == [f"ledger   pending: {REFUSED}"]
    assert told[-1] == "ledger   parked: no further"


def test_time_that_ran_out_is_told_with_the_reason_why_the_run_waits() -> None:
    said = explain_no_result(replace(RUN, reason=REFUSED))
    assert f"the run is pending, {REFUSED}. Next step: " in said
    assert "Next step: " in explain_no_result(None)
