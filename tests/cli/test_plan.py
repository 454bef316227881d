"""Attaching and detaching, decided as values."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immortal_cli.plan import (
    NOTHING,
    FunctionState,
    Installation,
    Memory,
    NameTarget,
    Plan,
    PutSendPolicy,
    PutTrust,
    Remember,
    Role,
    describe_step,
    plan_attach,
    plan_detach,
)

QUEUE = "arn:aws:sqs:eu-west-1:111122223333:failures"
OTHER_QUEUE = "arn:aws:sqs:eu-west-1:111122223333:of-the-team"
HOUSE = Installation("immortal", QUEUE, "arn:aws:iam::111122223333:role/runner")
LAMBDA_TRUST: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": {"Service": "lambda.amazonaws.com"},
    "Action": "sts:AssumeRole",
}


def role(name: str = "role", *statements: dict[str, Any]) -> Role:
    return Role(name, None, {"Version": "2012-10-17", "Statement": list(statements) or [LAMBDA_TRUST]})


def function(name: str = "job", *, target: str = "", of: Role | None = None) -> FunctionState:
    arn = f"arn:aws:lambda:eu-west-1:111122223333:function:{name}"
    return FunctionState(name, arn, of or role(), target, None, "python3.13")


def carried_out(state: FunctionState, plan: Plan) -> FunctionState:
    """What a function is after a plan."""
    for step in plan.steps:
        match step:
            case PutSendPolicy(of, _, document) if of == state.role.name:
                state = replace(state, role=replace(state.role, send_policy=document))
            case PutTrust(of, document, _) if of == state.role.name:
                state = replace(state, role=replace(state.role, trust=document))
            case Remember(arn, memory) if arn == state.arn:
                state = replace(state, memory=memory)
            case NameTarget(name, before, target) if name == state.name:
                assert state.target == before
                state = replace(state, target=target)
            case _:
                pass
    return state


TARGETS = st.sampled_from(["", OTHER_QUEUE])
FOREIGN = st.sampled_from(
    [[LAMBDA_TRUST], [LAMBDA_TRUST, {"Sid": "Team", "Effect": "Allow", "Action": "sts:TagSession"}]]
)


@given(TARGETS, FOREIGN)
def test_detaching_restores_what_was_there_before_attaching(target: str, statements: list[dict[str, Any]]) -> None:
    before = function(target=target, of=role("role", *statements))
    attached = carried_out(before, plan_attach([before], HOUSE))
    assert attached.target == QUEUE
    assert HOUSE.trust in attached.role.trust["Statement"]
    assert carried_out(attached, plan_detach([attached], HOUSE)) == before


@given(TARGETS, FOREIGN)
def test_attaching_twice_changes_nothing_more(target: str, statements: list[dict[str, Any]]) -> None:
    before = function(target=target, of=role("role", *statements))
    attached = carried_out(before, plan_attach([before], HOUSE))
    assert plan_attach([attached], HOUSE).steps == ()


AGAIN = Installation("immortal", f"{QUEUE}-of-the-second-store", "arn:aws:iam::111122223333:role/second-runner")
NEIGHBOUR = Installation("team", f"{QUEUE}-of-the-team", "arn:aws:iam::111122223333:role/runner-of-the-team")


@given(TARGETS)
@pytest.mark.parametrize(
    ("attached", "detached"),
    [
        ([HOUSE], [HOUSE]),
        ([HOUSE, HOUSE], [HOUSE]),
        ([HOUSE, AGAIN], [AGAIN]),
        ([HOUSE], [AGAIN]),
        ([HOUSE, AGAIN, HOUSE], [HOUSE]),
        ([HOUSE, NEIGHBOUR], [NEIGHBOUR, HOUSE]),
        ([HOUSE, NEIGHBOUR], [HOUSE, NEIGHBOUR]),
        ([HOUSE, NEIGHBOUR, AGAIN], [NEIGHBOUR, AGAIN]),
    ],
    ids=["once", "twice", "made again", "made again, not attached", "and back", "two", "two, the first first", "three"],
)
def test_whatever_was_attached_detaching_restores_what_the_user_had(
    attached: list[Installation], detached: list[Installation], target: str
) -> None:
    state = function(target=target)
    for installation in attached:
        state = carried_out(state, plan_attach([state], installation))
        assert state.target == installation.queue_arn
    for installation in detached:
        state = carried_out(state, plan_detach([state], installation))
    assert (state.target, state.memory) == (target, None)


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("then_attach", [True, False], ids=["attached again", "detached at once"])
@pytest.mark.parametrize("earlier", [(), (HOUSE,)], ids=["first", "made again"])
def test_an_attachment_that_was_interrupted_anywhere_loses_no_target(
    earlier: tuple[Installation, ...], steps: int, *, then_attach: bool
) -> None:
    state = function(target=OTHER_QUEUE)
    for installation in earlier:
        state = carried_out(state, plan_attach([state], installation))
    state = carried_out(state, Plan(plan_attach([state], AGAIN).steps[:steps]))
    if then_attach:
        state = carried_out(state, plan_attach([state], AGAIN))
    assert carried_out(state, plan_detach([state], AGAIN)).target == OTHER_QUEUE


def test_a_target_that_the_user_named_while_attached_is_the_one_that_comes_back() -> None:
    attached = carried_out(function(), plan_attach([function()], HOUSE))
    changed = replace(attached, target=OTHER_QUEUE)
    again = carried_out(changed, plan_attach([changed], AGAIN))
    assert carried_out(again, plan_detach([again], AGAIN)).target == OTHER_QUEUE


def test_a_function_that_names_nothing_is_not_taken_for_one_of_an_installation_that_is_gone() -> None:
    gone = Installation("immortal", "", "")
    assert plan_detach([function()], gone) == Plan(())
    changed = replace(function(), memory=Memory(OTHER_QUEUE, QUEUE, "immortal"))
    assert plan_detach([changed], gone).steps == (Remember(changed.arn, None),)


def test_an_installation_that_is_gone_leaves_what_was_there_before_it() -> None:
    before = function(target=OTHER_QUEUE)
    attached = carried_out(before, plan_attach([before], HOUSE))
    assert carried_out(attached, plan_detach([attached], Installation("immortal", "", ""))) == before


def test_published_versions_are_pointed_out_with_a_better_way() -> None:
    (note,) = plan_attach([replace(function(), released=True)], HOUSE).notes
    assert "on-failure destination" in note
    assert plan_attach([function()], HOUSE).notes == ()


def test_a_function_of_another_installation_is_left_to_it() -> None:
    attached = carried_out(function(), plan_attach([function()], NEIGHBOUR))
    plan = plan_detach([attached], HOUSE)
    assert not any(isinstance(step, NameTarget | Remember) for step in plan.steps)
    assert any("immortal detach job --name team" in note for note in plan.notes)


def test_a_function_that_was_never_attached_is_not_detached() -> None:
    assert plan_detach([function(target=OTHER_QUEUE)], HOUSE).steps == ()


def test_the_role_may_send_before_the_queue_is_named() -> None:
    kinds = [type(step) for step in plan_attach([function()], HOUSE).steps]
    assert kinds.index(PutSendPolicy) < kinds.index(NameTarget)


def test_what_was_named_before_is_remembered_before_it_is_replaced() -> None:
    steps = plan_attach([function(target=OTHER_QUEUE)], HOUSE).steps
    memory = Memory(OTHER_QUEUE, QUEUE, "immortal")
    assert steps[-2:] == (Remember(function().arn, memory), NameTarget("job", OTHER_QUEUE, QUEUE))


def test_a_dead_letter_queue_that_was_there_is_shown_in_the_plan() -> None:
    described = [describe_step(step) for step in plan_attach([function(target=OTHER_QUEUE)], HOUSE).steps]
    assert ("function job", "DeadLetterConfig", f"{OTHER_QUEUE} → {QUEUE}") in described


def test_functions_with_one_role_change_it_once_and_are_told_that_they_cannot_be_told_apart() -> None:
    plan = plan_attach([function("a"), function("b")], HOUSE)
    assert [type(step) for step in plan.steps].count(PutTrust) == 1
    assert any("a: shares the role role with b" in note for note in plan.notes)


def test_a_role_keeps_its_rights_while_another_function_needs_them() -> None:
    before = function()
    attached = carried_out(before, plan_attach([before], HOUSE))
    plan = plan_detach([replace(attached, sharers=("other",))], HOUSE)
    assert not any(isinstance(step, PutSendPolicy | PutTrust) for step in plan.steps)
    assert any("other" in note for note in plan.notes)


def test_a_target_that_was_changed_since_is_left_alone() -> None:
    changed = replace(function(target=OTHER_QUEUE), memory=Memory(NOTHING, QUEUE, "immortal"))
    assert plan_detach([changed], HOUSE).steps == (Remember(changed.arn, None),)


def test_a_target_that_attach_did_not_set_is_left_alone_and_its_role_too() -> None:
    before = function()
    by_hand = replace(carried_out(before, plan_attach([before], HOUSE)), memory=None)
    plan = plan_detach([by_hand], HOUSE)
    assert plan.steps == ()
    assert any("not set by immortal attach" in note for note in plan.notes)


def test_the_trust_of_an_installation_that_was_made_again_is_replaced() -> None:
    stale = {**HOUSE.trust, "Principal": {"AWS": "AROAGONE"}}
    state = function(of=role("role", LAMBDA_TRUST, stale))
    (trust,) = [step for step in plan_attach([state], HOUSE).steps if isinstance(step, PutTrust)]
    assert trust.document["Statement"] == [LAMBDA_TRUST, HOUSE.trust]


def test_a_trust_with_a_single_statement_without_a_list_is_understood() -> None:
    state = function(of=Role("role", None, {"Version": "2012-10-17", "Statement": LAMBDA_TRUST}))
    (trust,) = [step for step in plan_attach([state], HOUSE).steps if isinstance(step, PutTrust)]
    assert trust.document["Statement"] == [LAMBDA_TRUST, HOUSE.trust]


def test_a_runtime_that_is_not_carried_out_is_told() -> None:
    (note,) = plan_attach([replace(function(), runtime="go1.x")], HOUSE).notes
    assert "go1.x" in note


@pytest.mark.parametrize("runtime", ["python3.13", "nodejs22.x", ""], ids=["python", "node", "container-image"])
def test_what_is_carried_out_needs_no_word(runtime: str) -> None:
    assert not plan_attach([replace(function(), runtime=runtime)], HOUSE).notes


def test_statement_ids_of_several_installations_differ_and_hold_letters_and_digits_only() -> None:
    second = replace(HOUSE, name="team-2")
    assert second.sid == "ImmortalRunnerTeam2"
    assert second.policy_name != HOUSE.policy_name
