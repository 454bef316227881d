"""The runner's environment: what it says, and what is said of what it can't mean."""

import pytest

from immortal_runner.settings import Settings, SettingsWrong, read_settings

NEEDED = {"IMMORTAL_RUN_ID": "r-1", "IMMORTAL_LEDGER_TABLE": "runs", "IMMORTAL_PAYLOAD_BUCKET": "payloads"}


def read(**settings: str) -> Settings:
    return read_settings(NEEDED | settings)


def test_a_bare_environment_runs_a_function_as_on_lambda_without_its_limit() -> None:
    found = read()
    assert (found.deadline, found.request_id, found.credentials) == ("unlimited", "original", "endpoint")
    assert (found.extensions, found.changed_code) == ("on", "run")
    assert (found.drain_runs, found.drain_s, found.lease_s, found.stop_grace_s) == (100, 900, 60, 20)


def test_each_mode_can_be_chosen() -> None:
    found = read(
        IMMORTAL_DEADLINE="original",
        IMMORTAL_REQUEST_ID="fresh",
        IMMORTAL_CREDENTIALS="task-role",
        IMMORTAL_EXTENSIONS="off",
        IMMORTAL_CHANGED_CODE="park",
        IMMORTAL_DRAIN_RUNS="0",
    )
    assert (found.deadline, found.request_id, found.credentials) == ("original", "fresh", "task-role")
    assert (found.extensions, found.changed_code, found.drain_runs) == ("off", "park", 0)
    assert read(IMMORTAL_DEADLINE="2147483").deadline == 2_147_483


def test_a_handler_gets_what_the_stop_timeout_leaves_it() -> None:
    assert read(IMMORTAL_STOP_TIMEOUT_S="120").stop_grace_s == 110
    assert read(IMMORTAL_STOP_TIMEOUT_S="120", IMMORTAL_STOP_GRACE_S="1").stop_grace_s == 1


def test_all_that_is_missing_or_means_nothing_is_told_at_once() -> None:
    wrong = {
        "IMMORTAL_RUN_ID": "r-1",
        "IMMORTAL_DEADLINE": "2147484",
        "IMMORTAL_REQUEST_ID": "new",
        "IMMORTAL_DRAIN_RUNS": "-1",
        "IMMORTAL_LEASE_S": "nan",
    }
    with pytest.raises(SettingsWrong) as error:
        read_settings(wrong)
    said = str(error.value)
    for words in (
        "not set: IMMORTAL_LEDGER_TABLE, IMMORTAL_PAYLOAD_BUCKET",
        "IMMORTAL_DEADLINE is '2147484', and must be unlimited, original, or seconds from 1 to 2147483",
        "IMMORTAL_REQUEST_ID is 'new', and must be original or fresh",
        "IMMORTAL_DRAIN_RUNS is '-1', and must be a whole number, 0 or more",
        "IMMORTAL_LEASE_S is 'nan', and must be 1 or more",
        "Next step:",
    ):
        assert words in said


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "Unlimited", "1e3", "soon"])
def test_a_deadline_is_a_mode_or_whole_seconds(text: str) -> None:
    with pytest.raises(SettingsWrong, match="IMMORTAL_DEADLINE"):
        read(IMMORTAL_DEADLINE=text)


def test_where_the_tasks_credentials_are_served_is_a_secret() -> None:
    found = read(AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/v2/credentials/0123")
    assert found.credentials_uri == "http://169.254.170.2/v2/credentials/0123"
    assert "0123" not in repr(found)
