"""Parameters of the templates, as deploy chooses them."""

import pytest

from immortal_cli.templates import (
    FILLED_IN,
    TEMPLATE_NAMES,
    ParameterFilledIn,
    ParameterUnknown,
    Template,
    choose_parameters,
    declared_parameters,
    read_template,
    refuse_filled_in,
    refuse_unknown,
)

TEMPLATE = Template("", frozenset({"Name", "Image", "Cpu"}))


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_the_parameters_of_our_templates_are_known(name: str) -> None:
    assert read_template(name).parameters


def test_a_template_without_parameters_declares_none() -> None:
    assert declared_parameters("Resources:\n  Queue:\n    Type: AWS::SQS::Queue\n") == frozenset()


def test_only_top_level_names_are_parameters() -> None:
    text = "Parameters:\n  # why\n  Name:\n    Type: String\n\n  Cpu:\n    Default: 1\nResources:\n  Queue: {}\n"
    assert declared_parameters(text) == {"Name", "Cpu"}


def test_what_is_given_wins_over_what_the_stack_has_and_that_over_the_default() -> None:
    chosen = choose_parameters(
        {"Image": "new", "Elsewhere": "x"}, TEMPLATE, previous=frozenset({"Image", "Cpu", "Old"})
    )
    assert chosen == [
        {"ParameterKey": "Image", "ParameterValue": "new"},
        {"ParameterKey": "Cpu", "UsePreviousValue": True},
    ]


def test_a_misspelt_parameter_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ParameterUnknown, match="Nearest: Image"):
        refuse_unknown({"Imgae": "x"}, [TEMPLATE])


@pytest.mark.parametrize("name", FILLED_IN)
def test_a_parameter_that_deploy_fills_in_is_refused_with_the_next_step(name: str) -> None:
    assert any(name in read_template(template).parameters for template in TEMPLATE_NAMES)
    with pytest.raises(ParameterFilledIn, match=rf"{name} can't be given: .*Next step: "):
        refuse_filled_in({name: "x", "Cpu": "512"})


def test_other_parameters_are_not_refused() -> None:
    refuse_filled_in({"Cpu": "512"})
