import pytest

from immortal_dispatcher.settings import Settings, SettingsIncomplete, read_settings

COMPLETE = {
    "IMMORTAL_LEDGER_TABLE": "runs",
    "IMMORTAL_PAYLOAD_BUCKET": "payloads",
    "IMMORTAL_CLUSTER": "immortal",
    "IMMORTAL_TASK_DEFINITION": "immortal-runner",
    "IMMORTAL_SUBNETS": "subnet-1, subnet-2",
    "IMMORTAL_SECURITY_GROUPS": "",
    "IMMORTAL_ASSIGN_PUBLIC_IP": "ENABLED",
}


def test_lists_are_read_without_blanks_and_may_be_empty_where_the_template_allows_it() -> None:
    assert read_settings(COMPLETE) == Settings(
        "runs", "payloads", "immortal", "immortal-runner", ("subnet-1", "subnet-2"), (), "ENABLED"
    )


def test_all_missing_names_are_told_in_one_error() -> None:
    with pytest.raises(SettingsIncomplete, match=r"IMMORTAL_CLUSTER, IMMORTAL_SUBNETS\. Next step"):
        read_settings(COMPLETE | {"IMMORTAL_CLUSTER": "", "IMMORTAL_SUBNETS": " , "})


def test_a_public_address_is_enabled_or_disabled_and_nothing_else() -> None:
    with pytest.raises(SettingsIncomplete, match="'yes'"):
        read_settings(COMPLETE | {"IMMORTAL_ASSIGN_PUBLIC_IP": "yes"})
