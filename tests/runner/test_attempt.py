"""The runner as ECS starts it: a process with an environment, a ledger, and nothing else."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from immortal_lambda.aws import PayloadBucket, client
from immortal_lambda.errors import AccessRefused, ServiceUnavailable
from immortal_lambda.ledger import Claim, Ledger
from immortal_lambda.payloads import Inline, Stored, keep
from immortal_runner.aws import AwsAccount
from immortal_runner.exit_codes import ExitCode
from immortal_runner.metadata import TaskMetadata
from immortal_runner.settings import read_settings
from immortal_runner.stop import StopSignal
from immortal_runner.task import Task
from support.stages import RUN_ID, Stage, zipped


def test_a_run_is_finished_without_its_limit(stage: Stage) -> None:
    arn = stage.create(
        "import boto3, time\n"
        "def handler(event, context):\n"
        "  print('working')\n"
        "  time.sleep(1.5)\n"
        "  me = boto3.client('sts').get_caller_identity()['Arn']\n"
        "  return [event, context.aws_request_id, context.invoked_function_arn, me]"
    )
    stage.record(arn, Inline(b'{"n": 1}'))
    code, run = stage.run()
    assert (code, run.status) == (ExitCode.COMPLETE, "complete")
    name = arn.split(":")[-1]
    who = f"arn:aws:sts::123456789012:assumed-role/runner-tests/{name}"
    assert stage.result(run) == [{"n": 1}, RUN_ID, arn, who]
    assert run.created_ms <= run.claimed_ms <= run.handler_ms <= run.ended_ms
    assert run.log_group == f"/aws/lambda/{name}"
    assert [line.split()[0] for line in stage.log(run).splitlines()] == ["START", "working", "END", "REPORT"]


def test_layers_variables_and_packages_are_there(stage: Stage) -> None:
    functions = stage.local.client("lambda")
    layers = [
        functions.publish_layer_version(LayerName=name, Content={"ZipFile": zipped(files)})["LayerVersionArn"]
        for name, files in (
            ("first", {"python/shared.py": "who = 'first'", "data/words.txt": "words"}),
            ("second", {"python/shared.py": "who = 'second'"}),
        )
    ]
    arn = stage.create(
        {
            "app.py": "import os, shared, vendored\n"
            "def handler(event, context): return [shared.who, vendored.who, os.environ['OWN']]",
            "vendored/__init__.py": "who = 'package'",
        },
        Layers=layers,
        Environment={"Variables": {"OWN": "variable"}},
    )
    stage.record(arn)
    _, run = stage.run()
    assert stage.result(run) == ["second", "package", "variable"]


@pytest.mark.parametrize(
    ("code", "exit_code", "error_type"),
    [
        ("def handler(e, c): raise ValueError('row 17')", ExitCode.HANDLER_ERROR, "ValueError"),
        ("import nothing_of_that_name", ExitCode.INIT_ERROR, "Runtime.ImportModuleError"),
        ("import os\ndef handler(e, c): os.kill(os.getpid(), 9)", ExitCode.PROCESS_DIED, "Runtime.ExitError"),
        ("import sys\ndef handler(e, c): sys.exit(3)", ExitCode.PROCESS_DIED, "Runtime.ExitError"),
    ],
    ids=["raises", "import", "kills itself", "exits"],
)
def test_code_that_fails_leaves_its_own_last_word(stage: Stage, code: str, exit_code: int, error_type: str) -> None:
    stage.record(stage.create(code))
    code_found, run = stage.run()
    assert run.error is not None, run
    assert (code_found, run.status, run.error.error_type) == (exit_code, "error", error_type)


def test_a_handler_cannot_kill_the_runner(stage: Stage) -> None:
    stage.record(stage.create("import os\ndef handler(event, context): os.kill(os.getppid(), 9)"))
    _, run = stage.run()
    assert run.error is not None, run
    assert run.error.error_type in {"PermissionError", "Runtime.ExitError"}  # the latter where it isn't another user


def test_big_events_and_results_travel_by_claim_check(stage: Stage) -> None:
    arn = stage.create("def handler(event, context): return event * 7")
    event = keep(json.dumps("x" * 1_000_000).encode(), name="e", bucket=stage.bucket)
    assert isinstance(event, Stored)
    stage.record(arn, event)
    _, run = stage.run()
    assert isinstance(run.result, Stored)
    assert stage.result(run) == "x" * 7_000_000
    assert "Lambda takes 6291556" in run.note


def test_the_version_that_failed_is_the_version_that_runs(stage: Stage) -> None:
    arn = stage.create("def handler(event, context): return ['old', context.function_version]")
    functions = stage.local.client("lambda")
    functions.publish_version(FunctionName=arn)
    functions.update_function_code(FunctionName=arn, ZipFile=zipped("def handler(event, context): return 'new'"))
    stage.record(f"{arn}:1")
    _, run = stage.run()
    assert stage.result(run) == ["old", "1"]


@pytest.mark.conformance(78)
def test_code_newer_than_its_failure_is_noted(stage: Stage) -> None:
    stage.record(stage.create("def handler(event, context): return 1"), failed_ms=1_700_000_000_000)
    _, run = stage.run()
    assert run.status == "complete"
    assert "was changed at" in run.note


def test_a_function_that_is_gone_is_parked(stage: Stage) -> None:
    arn = stage.create("def handler(event, context): return 1")
    stage.local.client("lambda").delete_function(FunctionName=arn)
    stage.record(arn)
    code, run = stage.run()
    assert (code, run.status) == (ExitCode.PARKED, "parked")
    assert "is gone. Next step:" in run.reason


@pytest.mark.conformance(60)
def test_a_layer_that_is_gone_is_parked(stage: Stage) -> None:
    functions = stage.local.client("lambda")
    layer = functions.publish_layer_version(LayerName="doomed", Content={"ZipFile": zipped({"python/a.py": ""})})
    arn = stage.create("def handler(event, context): return 1", Layers=[layer["LayerVersionArn"]])
    functions.delete_layer_version(LayerName="doomed", VersionNumber=layer["Version"])
    stage.record(arn)
    code, run = stage.run()
    assert (code, run.status) == (ExitCode.PARKED, "parked")
    assert "doomed" in run.reason


def test_a_zip_that_escapes_its_folder_is_parked(stage: Stage) -> None:
    stage.record(stage.create({"app.py": "", "../../escaped.py": "x"}))
    code, run = stage.run()
    assert (code, run.status) == (ExitCode.PARKED, "parked")
    assert "leaves the folder" in run.reason


def test_an_event_that_was_lost_is_parked(stage: Stage) -> None:
    arn = stage.create("def handler(event, context): return 1")
    stage.record(arn, Stored(stage.bucket.name, "gone", "0" * 64, 70_000))
    code, run = stage.run()
    assert (code, run.status) == (ExitCode.PARKED, "parked")
    assert "is gone" in run.reason


@pytest.fixture
def within(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Task]]:
    """A task in this very process, with parts that stumble."""
    for name, value in stage.environment().items():
        monkeypatch.setenv(name, value)
    client.cache_clear()

    def task(ledger: Ledger | None = None, bucket: Any = None, account: AwsAccount | None = None) -> Task:
        return Task(
            settings=read_settings(),
            ledger=ledger or stage.ledger,
            pulse=stage.ledger,
            bucket=bucket or stage.bucket,
            account=account or AwsAccount(),
            owner="within",
            metadata=TaskMetadata(),
            stop=StopSignal(),
        )

    yield task
    client.cache_clear()


@pytest.mark.conformance(58)
def test_code_that_is_not_what_its_configuration_names_is_parked(stage: Stage, within: Callable[..., Task]) -> None:
    class ChangedAccount(AwsAccount):
        def get_function(self, name: str, qualifier: str | None) -> dict[str, Any]:
            answer = super().get_function(name, qualifier)
            return answer | {"Configuration": answer["Configuration"] | {"CodeSha256": "A" * 43 + "="}}

    stage.record(stage.create("def handler(event, context): raise SystemExit('must not run')"))
    assert within(account=ChangedAccount()).work() == ExitCode.PARKED
    run = stage.ledger.read(RUN_ID)
    assert run.status == "parked"
    assert "its configuration says AAAA" in run.reason


class StumblingLedger(Ledger):
    """Fails twice before it takes an outcome."""

    failures = iter([ServiceUnavailable("throttled"), ServiceUnavailable("throttled")])

    def complete(self, claim: Claim, **about: Any) -> None:
        for failure in self.failures:
            raise failure
        super().complete(claim, **about)


def test_an_outcome_is_recorded_as_soon_as_the_ledger_takes_it(
    stage: Stage, within: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immortal_runner.record.RECORD_AGAIN_S", 0.05)
    stage.record(stage.create("def handler(event, context): return 'worth keeping'"))
    assert within(ledger=StumblingLedger(stage.table)).work() == ExitCode.COMPLETE
    assert stage.result(stage.ledger.read(RUN_ID)) == "worth keeping"


def test_a_task_that_is_stopped_while_the_start_is_put_on_record_does_not_begin(
    stage: Stage, within: Callable[..., Task]
) -> None:
    class SlowLedger(Ledger):
        def heartbeat(self, claim: Claim, **about: Any) -> None:
            super().heartbeat(claim, **about)
            task.stop.ask(grace_s=20)

    stage.record(stage.create("def handler(event, context): return 'begun'"))
    task = within(ledger=SlowLedger(stage.table))
    assert task.work() == ExitCode.RELEASED
    run = stage.ledger.read(RUN_ID)
    assert (run.status, run.result) == ("pending", None)
    assert "before the handler had begun" in run.reason


class RefusingLedger(Ledger):
    """Takes everything but an outcome."""

    def complete(self, claim: Claim, **_: Any) -> None:
        raise RuntimeError(f"no outcome of {claim.run.run_id} is taken")


def test_a_task_that_can_not_record_what_its_handler_did_begins_no_other(
    stage: Stage, within: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immortal_runner.record.RECORD_AGAIN_S", 0.01)
    arn = stage.create("def handler(event, context): return 'done'")
    stage.record(arn)
    stage.record(arn, run_id="second")
    assert within(ledger=RefusingLedger(stage.table)).work() == ExitCode.BROKEN
    assert [stage.ledger.read(run_id).status for run_id in (RUN_ID, "second")] == ["parked", "pending"]
    assert f"no outcome of {RUN_ID} is taken" in stage.ledger.read(RUN_ID).reason


def test_a_result_that_may_not_be_stored_does_not_undo_the_work(stage: Stage, within: Callable[..., Task]) -> None:
    class ClosedBucket(PayloadBucket):
        def upload(self, _key: str, _source: object) -> None:
            raise AccessRefused("s3:PutObject was refused")

    stage.record(stage.create("def handler(event, context): return 'x' * 100_000"))
    assert within(bucket=ClosedBucket(stage.bucket.s3, stage.bucket.name)).work() == ExitCode.COMPLETE
    run = stage.ledger.read(RUN_ID)
    assert (run.status, run.result) == ("complete", None)
    assert "100002 bytes that could not be stored: s3:PutObject was refused" in run.note


def test_an_error_of_any_length_fits_into_the_ledger(stage: Stage) -> None:
    calls = [f"def f{n}(): f{n + 1}()  # " + "ö" * 3_000 for n in range(60)]
    fails = ["class E(Exception): pass", "E.__name__ = 'é' * 5_000", "def f60(): raise E('ü' * 500_000)"]
    code = "\n".join([*calls, *fails, "def handler(event, context): f0()"])
    stage.record(stage.create(code))
    code_found, run = stage.run()
    assert (code_found, run.status) == (ExitCode.HANDLER_ERROR, "error")
    assert run.error is not None
    assert run.error.message.endswith("ü…")
    assert len(run.error.stack_trace) == 40


def test_a_difference_between_then_and_now_is_noted(stage: Stage) -> None:
    arn = stage.create("def handler(event, context): return 1", Architectures=["arm64"])
    stage.record(arn)
    _, run = stage.run()
    assert "the function is made for arm64 and ran on" in run.note


def test_a_second_runner_finds_nothing_to_do(stage: Stage) -> None:
    stage.record(stage.create("import time\ndef handler(event, context): time.sleep(2)"))
    first = stage.start()
    stage.until(lambda run: run.handler_ms)
    second = stage.start()
    second.communicate(timeout=30)
    assert second.returncode == ExitCode.NOTHING_TO_DO
    first.communicate(timeout=30)
    assert stage.ledger.read(RUN_ID).attempt == 1


def test_sigterm_gives_the_run_back_after_a_grace(stage: Stage) -> None:
    stage.record(stage.create("import time\ndef handler(event, context): time.sleep(60)"))
    runner = stage.start(grace_s=0.5)
    stage.until(lambda run: run.handler_ms)
    runner.send_signal(signal.SIGTERM)
    runner.communicate(timeout=20)
    run = stage.ledger.read(RUN_ID)
    assert (runner.returncode, run.status) == (ExitCode.RELEASED, "pending")
    assert "was stopped" in run.reason
    assert stage.log(run).splitlines()[-1].startswith("REPORT")


def test_a_handler_that_finishes_within_its_grace_has_finished(stage: Stage) -> None:
    stage.record(stage.create("import time\ndef handler(event, context):\n  time.sleep(2)\n  return 'done'"))
    runner = stage.start()
    stage.until(lambda run: run.handler_ms)
    runner.send_signal(signal.SIGTERM)
    runner.communicate(timeout=20)
    assert runner.returncode == ExitCode.COMPLETE
    assert stage.result(stage.ledger.read(RUN_ID)) == "done"


def test_a_runner_that_is_killed_leaves_an_honest_record_and_no_process(stage: Stage) -> None:
    mark = f"5{time.time_ns() % 100_000_000}"
    stage.record(
        stage.create(
            f"import subprocess, time\ndef handler(e, c):\n  subprocess.Popen(['sleep', '{mark}'])\n  time.sleep(60)"
        )
    )
    runner = stage.start()
    run = stage.until(lambda run: run.handler_ms)
    runner.kill()
    runner.communicate(timeout=20)
    found = stage.ledger.read(RUN_ID)
    assert (found.status, found.attempt, found.result) == ("processing", 1, None)
    assert found.lease_lost(run.lease_until_ms + 1)
    deadline = time.monotonic() + 5
    while mark in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout:  # noqa: S607
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_lost_claim_stops_the_handler_and_nothing_is_recorded(stage: Stage) -> None:
    stage.record(stage.create("import time\ndef handler(event, context): time.sleep(60)"))
    runner = stage.start(lease_s=2)
    run = stage.until(lambda run: run.handler_ms)
    assert stage.ledger.park(run, reason="an operator said so", now_ms=run.updated_ms)
    runner.communicate(timeout=20)
    found = stage.ledger.read(RUN_ID)
    assert (runner.returncode, found.status, found.reason) == (ExitCode.LEASE_LOST, "parked", "an operator said so")


def test_whoever_started_the_task_takes_it_along(stage: Stage) -> None:
    stage.record(stage.create("import time\ndef handler(event, context): time.sleep(60)"))
    read_end, write_end = os.pipe()
    runner = stage.start(lifeline=read_end)
    os.close(read_end)
    stage.until(lambda run: run.handler_ms)
    os.close(write_end)
    assert runner.wait(timeout=10) == ExitCode.BROKEN


def test_an_environment_that_is_incomplete_names_all_that_is_missing() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "immortal_runner"],
        env={"IMMORTAL_RUN_ID": "r"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == ExitCode.BROKEN
    assert said.stderr.startswith("not set: IMMORTAL_LEDGER_TABLE, IMMORTAL_PAYLOAD_BUCKET.")
