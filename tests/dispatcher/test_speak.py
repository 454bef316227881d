import json

import pytest

from immortal_dispatcher.speak import describe_error, say
from immortal_lambda.errors import ServiceUnavailable


def test_each_line_is_one_json_object_without_empty_members(capsys: pytest.CaptureFixture[str]) -> None:
    say("recorded", letter_id="l-1", run_id="r-1", reason="", task_arn=None, launch=0)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"said": "recorded", "letter_id": "l-1", "run_id": "r-1", "launch": 0}


def test_a_foreign_error_is_described_by_type_and_place_alone() -> None:
    def fail() -> None:
        raise ValueError("hunter2")

    with pytest.raises(ValueError, match="hunter2") as caught:
        fail()
    described = describe_error(caught.value)
    assert described["error"] == "ValueError"
    assert "in fail" in described["where"]
    assert "hunter2" not in json.dumps(described)


def test_our_own_errors_are_told_in_full() -> None:
    assert describe_error(ServiceUnavailable("dynamodb:PutItem"))["message"] == "dynamodb:PutItem"
