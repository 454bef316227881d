import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from immortal_runner.execution import report
from immortal_runner.execution.outcomes import (
    Errored,
    Outcome,
    Returned,
    exited,
    interrupted,
    out_of_memory,
    read_error,
    timed_out,
)
from immortal_runner.runtime_api.bodies import Body
from immortal_runner.runtime_api.invocations import Invocation
from support.functions import FUNCTION, Environments, MemoryLog

REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
NOW = datetime(2026, 11, 21, 10, 4, 5, 678_901, tzinfo=UTC)
COLD = report.Measured(3.014, 110.1, 36)
WARM = report.Measured(2.9, None, 36)
DONE = Returned(Body(b"null"))
RAISED = read_error("handler", b'{"errorType":"ValueError","errorMessage":"x"}')
REPORT = f"REPORT RequestId: {REQUEST_ID}\tDuration: 3.01 ms\tBilled Duration: 114 ms\tMemory Size: "
JSON_FUNCTION = replace(FUNCTION, log_format="JSON", application_log_level="INFO", system_log_level="INFO")


def end_in_text(outcome: Outcome, measured: report.Measured = COLD) -> list[str]:
    return report.end(FUNCTION, REQUEST_ID, outcome, measured, NOW).splitlines()


def all_as_json(outcome: Outcome, level: str) -> list[tuple[str, str]]:
    """Give type and status of each line."""
    function = replace(JSON_FUNCTION, system_log_level=level)
    lines = (
        report.init_start(function, NOW)
        + report.start(function, REQUEST_ID, NOW)
        + report.end(function, REQUEST_ID, outcome, COLD, NOW)
    )
    events = map(json.loads, lines.splitlines())
    return [(event["type"].removeprefix("platform."), event["record"].get("status", "")) for event in events]


def test_text_is_worded_as_lambda_words_it() -> None:
    assert report.init_start(FUNCTION, NOW) == ""
    assert report.start(FUNCTION, REQUEST_ID, NOW) == f"START RequestId: {REQUEST_ID} Version: $LATEST\n"
    assert report.end(FUNCTION, REQUEST_ID, DONE, COLD, NOW) == (
        f"END RequestId: {REQUEST_ID}\n"
        f"{REPORT}{FUNCTION.memory_mb} MB\tMax Memory Used: 36 MB\tInit Duration: 110.10 ms\t\n"
    )


def test_a_process_that_was_there_already_has_no_init_duration() -> None:
    (_, line) = end_in_text(DONE, WARM)
    assert "Init Duration" not in line
    assert "Billed Duration: 3 ms" in line


@pytest.mark.parametrize(
    ("outcome", "last_word", "fields"),
    [
        (DONE, [], ""),
        (RAISED, [], ""),
        (
            timed_out(REQUEST_ID, 3),
            [f"2026-11-21T10:04:05.678Z {REQUEST_ID} Task timed out after 3.00 seconds"],
            "\tStatus: timeout",
        ),
        (
            exited(REQUEST_ID, 3),
            [f"RequestId: {REQUEST_ID} Error: Runtime exited with error: exit status 3", "Runtime.ExitError"],
            "\tStatus: error\tError Type: Runtime.ExitError",
        ),
        (
            out_of_memory(REQUEST_ID),
            [f"RequestId: {REQUEST_ID} Error: Runtime exited with error: signal: killed", "Runtime.OutOfMemory"],
            "\tStatus: error\tError Type: Runtime.OutOfMemory",
        ),
        (replace(RAISED, family="init"), [], "\tStatus: error\tError Type: ValueError"),
        (
            interrupted(REQUEST_ID),
            [f"RequestId: {REQUEST_ID} Error: Task was stopped before it finished", "Sandbox.Interrupted"],
            "\tStatus: error\tError Type: Sandbox.Interrupted",
        ),
    ],
    ids=["returned", "raised", "timeout", "exit", "memory", "init", "interrupted"],
)
def test_how_it_ended_is_told_before_the_end_and_in_the_report(
    outcome: Outcome, last_word: list[str], fields: str
) -> None:
    *said, ended, line = end_in_text(outcome)
    assert said == last_word
    assert ended == f"END RequestId: {REQUEST_ID}"
    assert line.endswith(f"\tInit Duration: 110.10 ms{fields}\t")


def test_json_holds_what_text_holds() -> None:
    (line,) = report.end(JSON_FUNCTION, REQUEST_ID, DONE, COLD, NOW).splitlines()
    assert json.loads(line) == {
        "time": "2026-11-21T10:04:05.678Z",
        "type": "platform.report",
        "record": {
            "requestId": REQUEST_ID,
            "metrics": {
                "durationMs": 3.014,
                "billedDurationMs": 114,
                "memorySizeMB": FUNCTION.memory_mb,
                "maxMemoryUsedMB": 36,
                "initDurationMs": 110.1,
            },
            "status": "success",
        },
    }
    assert json.loads(report.start(JSON_FUNCTION, REQUEST_ID, NOW))["record"] == {
        "requestId": REQUEST_ID,
        "version": "$LATEST",
    }


@pytest.mark.parametrize(
    ("level", "outcome", "lines"),
    [
        ("DEBUG", DONE, [("initStart", ""), ("start", ""), ("runtimeDone", "success"), ("report", "success")]),
        ("INFO", DONE, [("start", ""), ("report", "success")]),
        ("", DONE, [("start", ""), ("report", "success")]),
        ("WARN", DONE, []),
        ("WARN", RAISED, [("runtimeDone", "error"), ("report", "error")]),
        ("INFO", timed_out(REQUEST_ID, 3), [("start", ""), ("runtimeDone", "timeout"), ("report", "timeout")]),
    ],
)
def test_the_system_log_level_decides_which_json_lines_pass(
    level: str, outcome: Outcome, lines: list[tuple[str, str]]
) -> None:
    assert all_as_json(outcome, level) == lines


@pytest.mark.parametrize("outcome", [RAISED, exited(REQUEST_ID, 3), out_of_memory(REQUEST_ID)])
def test_json_names_the_error_type(outcome: Errored) -> None:
    for line in report.end(JSON_FUNCTION, REQUEST_ID, outcome, COLD, NOW).splitlines():
        record = json.loads(line)["record"]
        assert (record["status"], record["errorType"]) == ("error", outcome.error_type)


CODE = (
    "import logging\n"
    "print('at import', end='')\n"
    "def handler(event, context):\n"
    "    logging.getLogger().info('suppressed')\n"
    "    logging.getLogger().warning('kept')\n"
    "    print('not JSON')\n"
)


@pytest.mark.conformance(49)
def test_a_function_that_logs_json_gets_json_from_platform_and_client(
    environments: Environments, log: MemoryLog
) -> None:
    environment = environments(CODE, log_format="JSON", application_log_level="WARN", system_log_level="DEBUG")
    environment.invoke(Invocation(REQUEST_ID, b"{}", FUNCTION.arn), timeout_s=20)
    lines = log.text.replace("at import{", "at import\n{").splitlines()
    said = [json.loads(line) if line.startswith("{") else {"type": line} for line in lines]
    assert [each.get("type") or (each["level"], each["message"]) for each in said] == [
        "platform.initStart",
        "at import",
        "platform.start",
        ("WARNING", "kept"),
        "not JSON",
        "platform.runtimeDone",
        "platform.report",
    ]


def test_what_is_printed_at_import_stands_before_the_start_and_in_a_line_of_its_own(environments: Environments) -> None:
    environment = environments(CODE)
    environment.invoke(Invocation(REQUEST_ID, b"{}", FUNCTION.arn), timeout_s=20)
    tail = environment.log_tail.decode().splitlines()
    assert tail[:2] == ["at import", f"START RequestId: {REQUEST_ID} Version: $LATEST"]
