import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immortal_local.stacks.templates import (
    NOTHING,
    Scope,
    TemplateInvalid,
    Unresolved,
    read_template,
    resolve,
    resolve_parameters,
)

QUEUE = "Resources: {Q: {Type: AWS::SQS::Queue}}"


def read_ssm(name: str) -> str:
    return f"value of {name}"


def make_scope(text: str = QUEUE, **parameters: Any) -> Scope:
    def attribute(name: str, which: str) -> str:
        if name == "NotMade":
            raise Unresolved(name)
        return f"{name}.{which}" if which else f"id of {name}"

    return Scope(
        read_template(text), {"AWS::Region": "eu-west-1", **parameters}, attribute, lambda name: f"export {name}"
    )


def test_yaml_and_json_read_the_same() -> None:
    yaml = "Resources:\n  Q:\n    Type: AWS::SQS::Queue\n    Properties: {QueueName: !Sub '${AWS::StackName}-q'}\n"
    properties = {"QueueName": {"Fn::Sub": "${AWS::StackName}-q"}}
    text = json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": properties}}})
    assert read_template(yaml).resources == read_template(text).resources


def test_a_date_stays_text() -> None:
    template = read_template("Resources: {Q: {Type: T, Properties: {Version: 2012-10-17}}}")
    assert template.resources["Q"].properties == {"Version": "2012-10-17"}


def test_resources_come_after_what_they_need() -> None:
    template = read_template(
        "Resources:\n"
        "  A: {Type: T, Properties: {X: !GetAtt B.Arn}}\n"
        "  B: {Type: T, DependsOn: C}\n"
        "  C: {Type: T, Properties: {X: !Sub 'of ${D}'}}\n"
        "  D: {Type: T}\n"
    )
    assert list(template.resources) == ["D", "C", "B", "A"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("Resources: {", "not well-formed", id="no-yaml"),
        pytest.param("{}", "At least one Resources member", id="empty"),
        pytest.param("Transform: X\n" + QUEUE, "Transform", id="transform"),
        pytest.param("Resources: {Q: {}}", "/Resources/Q/Type", id="no-type"),
        pytest.param("Resources: {Q: {Type: T, UpdatePolicy: {}}}", "UpdatePolicy", id="unknown-key"),
        pytest.param("Resources: {Q: {Type: T, DeletionPolicy: Snapshot}}", "Snapshot", id="unknown-policy"),
        pytest.param("Resources: {Q: {Type: T, DependsOn: X}}", r"\[X\]", id="depends-on-nothing"),
        pytest.param("Resources: {Q: {Type: T, Properties: {A: !Ref X}}}", r"\[X\]", id="refers-to-nothing"),
        pytest.param("Resources: {Q: {Type: T, Condition: X}}", "condition dependency X", id="no-such-condition"),
        pytest.param(
            "Resources: {A: {Type: T, DependsOn: B}, B: {Type: T, DependsOn: A}}", r"Circular.*\[A, B\]", id="circle"
        ),
    ],
)
def test_a_template_that_cannot_be_carried_out_says_why(text: str, sentence: str) -> None:
    with pytest.raises(TemplateInvalid, match=sentence):
        read_template(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Q"}, "id of Q"),
        ({"Ref": "P"}, "p"),
        ({"Fn::GetAtt": ["Q", "Arn"]}, "Q.Arn"),
        ({"Fn::GetAtt": "Q.Arn"}, "Q.Arn"),
        ({"Fn::Sub": "${P}-${Q.Arn}-${!kept}"}, "p-Q.Arn-${kept}"),
        ({"Fn::Sub": ["${own}-${P}", {"own": {"Ref": "Q"}}]}, "id of Q-p"),
        ({"Fn::Join": ["-", ["a", {"Ref": "P"}]]}, "a-p"),
        ({"Fn::Split": [",", "a,b"]}, ["a", "b"]),
        ({"Fn::Select": ["1", ["a", "b"]]}, "b"),
        ({"Fn::If": ["Holds", "holds", "not"]}, "holds"),
        ({"Fn::If": ["Not", "holds", {"Ref": "AWS::NoValue"}]}, NOTHING),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [{"Ref": "AWS::NoValue"}, 1]}, {"b": [1]}),
        ({"Fn::FindInMap": ["M", "x", "y"]}, 7),
        ({"Fn::ImportValue": {"Fn::Sub": "${P}-x"}}, "export p-x"),
        ({"Fn::GetAZs": ""}, ["eu-west-1a", "eu-west-1b", "eu-west-1c"]),
        ({"Fn::Base64": "hi"}, "aGk="),
        (
            {"Condition": {"Bool": {"aws:SecureTransport": "false"}}},
            {"Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        ),
    ],
    ids=lambda value: str(value) if value is not NOTHING else "nothing",
)
def test_functions_resolve(value: Any, expected: Any) -> None:
    text = (
        "Parameters: {P: {Type: String}}\n"
        "Mappings: {M: {x: {y: 7}}}\n"
        "Conditions:\n"
        "  Holds: !Equals [!Ref P, p]\n"
        "  Not: !And [{Condition: Holds}, !Not [!Or [{Condition: Holds}, !Equals [a, b]]]]\n" + QUEUE
    )
    assert resolve(value, make_scope(text, P="p")) == expected


def test_a_function_that_is_not_carried_out_is_named() -> None:
    with pytest.raises(TemplateInvalid, match="Fn::Cidr"):
        resolve({"Fn::Cidr": ["10.0.0.0/8", 1, 8]}, make_scope())


def test_a_reference_to_what_is_not_made_is_told() -> None:
    with pytest.raises(Unresolved):
        resolve({"a": [{"Ref": "NotMade"}]}, make_scope())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text().filter(lambda key: not key.startswith("Fn:") and key != "Ref"), inner)
    ),
)


@given(json_values)
def test_what_has_no_function_stays_as_it_is(value: Any) -> None:
    assert resolve(value, make_scope()) == value


@pytest.mark.parametrize(
    ("declared", "given_", "expected"),
    [
        ({"Type": "String", "Default": "a"}, {}, "a"),
        ({"Type": "Number", "Default": 7}, {}, "7"),
        ({"Type": "CommaDelimitedList", "Default": "a, b"}, {}, ["a", "b"]),
        ({"Type": "List<AWS::EC2::Subnet::Id>"}, {"P": "s-1,s-2"}, ["s-1", "s-2"]),
        ({"Type": "CommaDelimitedList", "Default": ""}, {}, []),
        ({"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/x"}, {}, "value of /x"),
    ],
)
def test_parameters_become_values(declared: Mapping[str, Any], given_: dict[str, str], expected: Any) -> None:
    assert resolve_parameters({"P": declared}, given_, read_ssm) == {"P": expected}


@pytest.mark.parametrize(
    ("declared", "given_", "sentence"),
    [
        ({"Type": "String"}, {}, r"\[P\] must have values"),
        ({"Type": "String", "Default": ""}, {"Z": "1"}, r"\[Z\] do not exist"),
        ({"Type": "String", "AllowedValues": ["a", "b"]}, {"P": "c"}, "AllowedValues"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, {"P": "1"}, "match pattern"),
        (
            {"Type": "String", "AllowedPattern": "[a-z]+", "ConstraintDescription": "small letters"},
            {"P": "1"},
            "small letters",
        ),
        ({"Type": "String", "MinLength": 2}, {"P": "1"}, "at least 2"),
        ({"Type": "String", "MaxLength": 2}, {"P": "123"}, "at most 2"),
        ({"Type": "Number"}, {"P": "x"}, "be a number"),
        ({"Type": "Number", "MinValue": 2}, {"P": "1"}, "not less than 2"),
        ({"Type": "Number", "MaxValue": 2}, {"P": "3"}, "not greater than 2"),
    ],
)
def test_a_parameter_that_breaks_its_constraints_is_refused(
    declared: Mapping[str, Any], given_: dict[str, str], sentence: str
) -> None:
    with pytest.raises(TemplateInvalid, match=sentence):
        resolve_parameters({"P": declared}, given_, read_ssm)
