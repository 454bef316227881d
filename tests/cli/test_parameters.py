"""Parameters of the templates, as deploy chooses them."""

import pytest

from immortal_cli.templates import (
    TEMPLATE_NAMES,
    ParameterUnknown,
    Template,
    choose_parameters,
    declared_parameters,
    read_template,
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
