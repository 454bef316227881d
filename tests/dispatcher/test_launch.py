import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, get_args

import boto3
import pytest
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from immortal_dispatcher.launch import (
    Cause,
    Refused,
    Started,
    explain_wait,
    name_launch,
    order_task,
    read_answer,
    read_error,
    relaunch_wait_ms,
    wait_ms,
    was_refused,
)
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run
from support.accounts import SETTINGS

RUN_IDS = st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True)


def run(run_id: str, launches: int = 1) -> Run:
    return Run(run_id, "rerun", "pending", Inline(b"{}"), 0, 0, launches=launches)


@cache
def run_task_shape() -> Any:
    return boto3.client("ecs", region_name="eu-west-1").meta.service_model.operation_model("RunTask").input_shape


@settings(deadline=None)
@given(RUN_IDS)
def test_every_order_is_one_that_ecs_takes(run_id: str) -> None:
    order = order_task(run(run_id), SETTINGS)
    assert not ParamValidator().validate(order, run_task_shape()).has_errors()
    assert len(json.dumps(order["overrides"])) <= 8192
    assert len(order["clientToken"]) <= 64
    assert len(order["startedBy"]) <= 128


def test_a_task_gets_the_run_id_and_nothing_else() -> None:
    assert order_task(run("r-1"), SETTINGS)["overrides"] == {
        "containerOverrides": [{"name": "runner", "environment": [{"name": "IMMORTAL_RUN_ID", "value": "r-1"}]}]
    }


def test_without_security_groups_the_networks_default_group_is_left_to_ecs() -> None:
    network = order_task(run("r-1"), replace(SETTINGS, security_groups=()))["networkConfiguration"]
    assert "securityGroups" not in network["awsvpcConfiguration"]


def test_the_same_launch_has_the_same_order_and_the_next_one_another_token() -> None:
    assert order_task(run("r-1"), SETTINGS) == order_task(run("r-1"), SETTINGS)
    assert name_launch(run("r-1", 1)) != name_launch(run("r-1", 2))
    assert name_launch(run("r-1", 11)) != name_launch(run("r-11", 1))


def test_launches_that_are_counted_anew_have_other_names() -> None:
    assert name_launch(run("r-1")) != name_launch(replace(run("r-1"), due_at_ms=1))


def test_a_task_in_the_answer_is_a_start() -> None:
    assert read_answer({"tasks": [{"taskArn": "arn:task"}], "failures": []}) == Started("arn:task")


def test_a_failure_with_status_200_is_a_refusal() -> None:
    answer = {"tasks": [], "failures": [{"arn": "x", "reason": "Capacity is unavailable at this time"}]}
    assert read_answer(answer) == Refused("capacity", "Capacity is unavailable at this time")


def test_an_answer_with_neither_task_nor_failure_is_no_start() -> None:
    assert isinstance(read_answer({"tasks": [], "failures": []}), Refused)


@pytest.mark.parametrize(
    ("code", "status", "cause"),
    [
        ("ThrottlingException", 400, "throttled"),
        ("AccessDeniedException", 400, "refused"),
        ("ServerException", 500, "unavailable"),
        ("SomethingNew", 503, "unavailable"),
        ("ClusterNotFoundException", 400, "misconfigured"),
        ("InvalidParameterException", 400, "misconfigured"),
        ("ClientException", 400, "misconfigured"),
    ],
)
def test_an_error_is_sorted_by_who_must_act(code: str, status: int, cause: Cause) -> None:
    answer = read_error(code, "said ECS", status=status)
    assert isinstance(answer, Refused)
    assert answer.cause == cause
    assert "said ECS" in answer.reason


def test_a_conflict_means_that_the_task_is_there() -> None:
    assert read_error("ConflictException", "", status=400, task_arns=("arn:task",)) == Started("arn:task")


@pytest.mark.parametrize("cause", get_args(Cause))
def test_waits_grow_and_stay_below_an_hour(cause: Cause) -> None:
    waits = [wait_ms(cause, launches) for launches in range(100)]
    assert all(earlier <= later for earlier, later in pairwise(waits))
    assert waits[0] >= 60_000
    assert waits[-1] <= 3_600_000


@pytest.mark.parametrize(
    ("launches", "minutes"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (6, 15), (7, 15), (1000, 15)]
)
def test_a_run_whose_tasks_came_to_nothing_waits_longer_each_time(launches: int, minutes: int) -> None:
    assert relaunch_wait_ms(launches) == minutes * 60_000


@pytest.mark.parametrize("cause", get_args(Cause))
def test_the_newest_order_was_refused_when_the_record_says_so_of_that_very_order(cause: Cause) -> None:
    refused = replace(run("r-1", 3), reason=explain_wait(Refused(cause, "said ECS"), 3))
    assert was_refused(refused)
    assert not was_refused(replace(refused, launches=4))
    assert not was_refused(run("r-1", 3))


@pytest.mark.parametrize("cause", get_args(Cause))
def test_a_run_that_waits_says_why_and_what_to_do(cause: Cause) -> None:
    text = explain_wait(Refused(cause, "said ECS"), 3)
    assert "launch 3" in text
    assert "said ECS" in text
    assert "Next step:" in text
