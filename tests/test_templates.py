"""The templates: each parameter explained, each wildcard justified, and what must stay stays."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from immortal_runner.settings import read_settings

FOLDER = Path(__file__).parents[1] / "cloudformation"
NAMES = ("store", "runner", "fallback")


class Loader(yaml.SafeLoader):
    """Reads a template; each function becomes a mapping of its name to its argument."""


def _construct(loader: yaml.Loader, tag: str, node: yaml.Node) -> Any:
    match node:
        case yaml.ScalarNode():
            return {tag: loader.construct_scalar(node)}
        case yaml.SequenceNode():
            return {tag: loader.construct_sequence(node, deep=True)}
        case _:
            return {tag: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]


Loader.add_multi_constructor("!", _construct)


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.yaml").read_text()


def read(name: str) -> Any:
    return yaml.load(text_of(name), Loader)  # noqa: S506  # a safe loader, of our own


PARAMETERS = [
    pytest.param(name, parameter, id=f"{name}-{parameter}") for name in NAMES for parameter in read(name)["Parameters"]
]


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_each_parameter_says_what_it_is_and_its_default(name: str, parameter: str) -> None:
    declared = read(name)["Parameters"][parameter]
    said = declared["Description"]
    default = str(declared.get("Default", ""))
    assert "No default" in said or "Default" in said
    assert default in said if default else "none" in said or "No default" in said


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_each_number_says_its_unit(name: str, parameter: str) -> None:
    declared = read(name)["Parameters"][parameter]
    if declared["Type"] == "Number":
        units = r"(?i)seconds|days|deliveries|letters|runs|dispatchers|MB|MiB|GiB"
        assert re.search(units, declared["Description"])


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_stands_in_one_group_and_has_a_label(name: str) -> None:
    template = read(name)
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [parameter for group in interface["ParameterGroups"] for parameter in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    assert sorted(interface["ParameterLabels"]) == sorted(template["Parameters"])


@pytest.mark.parametrize("name", NAMES)
def test_each_output_says_what_it_is(name: str) -> None:
    assert all(output["Description"] for output in read(name)["Outputs"].values())


@pytest.mark.parametrize("name", NAMES)
def test_each_wildcard_in_a_policy_carries_its_reason(name: str) -> None:
    lines = text_of(name).splitlines()
    broad = re.compile(r'Resource: "\*"|(role/|function:|layer:|repository/|log-group:)\*"')
    for at, line in enumerate(lines):
        if broad.search(line):
            assert "#" in "".join(lines[at - 2 : at + 1]), f"{name}.yaml:{at + 1}"


@pytest.mark.parametrize("name", NAMES)
def test_each_statement_is_named(name: str) -> None:
    for resource in read(name)["Resources"].values():
        for policy in resource.get("Properties", {}).get("Policies", []):
            assert all(statement["Sid"] for statement in policy["PolicyDocument"]["Statement"])


def test_what_lives_long_stays_when_its_stack_goes() -> None:
    for resource in read("store")["Resources"].values():
        assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resource["UpdateReplacePolicy"] == "Retain"


def test_the_failure_queue_can_be_imported_by_other_stacks() -> None:
    export = read("store")["Outputs"]["FailureQueueArn"]["Export"]["Name"]
    assert export == {"Sub": "${AWS::StackName}-FailureQueueArn"}


def test_a_letter_stays_hidden_for_six_times_the_dispatchers_timeout() -> None:
    hidden_s = read("store")["Parameters"]["VisibilityTimeoutSeconds"]["Default"]
    assert hidden_s >= 6 * read("fallback")["Resources"]["Dispatcher"]["Properties"]["Timeout"]


def test_a_task_gets_its_whereabouts_from_its_definition_and_a_template_says_what_the_runner_does_by_itself() -> None:
    template = read("runner")
    (runner,) = template["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    assert runner["Name"] == "runner"
    by_default = {
        variable["Name"]: str(template["Parameters"][variable["Value"]["Ref"]]["Default"])
        for variable in runner["Environment"]
        if "Ref" in variable["Value"]
    }
    needed = {"IMMORTAL_RUN_ID": "x", "IMMORTAL_LEDGER_TABLE": "x", "IMMORTAL_PAYLOAD_BUCKET": "x"}
    assert read_settings(needed | by_default) == read_settings(needed)
    assert {"IMMORTAL_DRAIN_RUNS", "IMMORTAL_CHANGED_CODE"} <= by_default.keys()


def statements(resource: str) -> list[dict[str, Any]]:
    policies = read("runner")["Resources"][resource]["Properties"]["Policies"]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def test_the_runner_assumes_only_roles_whose_own_trust_policy_names_it() -> None:
    actions = str([statement["Action"] for statement in statements("TaskRole")])
    assert "dynamodb:UpdateItem" in actions
    assert "sts:" not in actions
    assert "*" not in actions


def test_the_runner_logs_to_whatever_group_its_function_names() -> None:
    (logs,) = [statement for statement in statements("TaskRole") if "logs:" in str(statement["Action"])]
    assert sorted(logs["Action"]) == ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    assert logs["Resource"]["Sub"].endswith(":log-group:*")
