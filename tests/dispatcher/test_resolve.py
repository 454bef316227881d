import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from immortal_dispatcher.resolve import Candidate, Found, Unresolved, choose, choose_by_role, resolve
from immortal_lambda.arns import FunctionArn
from immortal_lambda.errors import AccessRefused, ServiceUnavailable
from immortal_lambda.letters import read_letter
from support.letters import QUEUE, candidate, function_arn, record


@dataclass
class Directory:
    """Functions and roles as they are now, and what a container remembers of the roles."""

    functions: Sequence[Candidate] = ()
    now: dict[str, str] = field(default_factory=dict)
    remembered: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None
    versions: bool = False
    logged: str | None = None

    def has_versions(self, function: FunctionArn, *, sent_ms: int) -> bool:
        assert (function.qualifier, sent_ms) == (None, 1_700_000_000_000)
        return self.versions

    def logged_version(self, log_group: str, request_id: str, *, sent_ms: int) -> str | None:
        assert (log_group, sent_ms) == ("/aws/lambda/job", 1_700_000_000_000)
        assert request_id
        return self.logged

    def candidates(self, queue_arn: str, *, sent_ms: int) -> Sequence[Candidate]:
        assert (queue_arn, sent_ms) == (QUEUE, 1_700_000_000_000)
        return self.functions

    def role_id(self, role_arn: str, *, fresh: bool) -> str | None:
        if self.error:
            raise self.error
        name = role_arn.rpartition("/")[2]
        return self.now.get(name) if fresh or name not in self.remembered else self.remembered[name]


def destination_record(function: str, *, version: str | None = "7", region: str = "eu-west-1") -> dict[str, object]:
    said = {
        "version": "1.0",
        "requestContext": {
            "requestId": "request",
            "functionArn": f"arn:aws:lambda:{region}:111122223333:function:{function}",
            "condition": "RetriesExhausted",
        },
        "requestPayload": {},
    }
    if version:
        said["responseContext"] = {"statusCode": 200, "executedVersion": version}
    return record(json.dumps(said), attributes={})


@pytest.mark.parametrize("version", ["3", "$LATEST"])
def test_of_a_function_with_versions_the_log_says_which_one_ran(version: str) -> None:
    finding = resolve(
        read_letter(record()), Directory([candidate("job")], {"job": "AROAJOBROLE"}, versions=True, logged=version)
    )
    assert isinstance(finding, Found)
    assert finding.version == version
    assert f"by its log, version {version} ran" in finding.found_by


def test_a_version_that_nothing_names_is_not_guessed() -> None:
    finding = resolve(read_letter(record()), Directory([candidate("job")], {"job": "AROAJOBROLE"}, versions=True))
    assert isinstance(finding, Unresolved)
    assert (
        "job has published versions, and neither the message nor /aws/lambda/job says which one ran" in finding.reason
    )


def test_a_destination_names_function_and_version() -> None:
    finding = resolve(read_letter(destination_record("job:live")), Directory())
    assert isinstance(finding, Found)
    assert (str(finding.function), finding.version) == (f"{function_arn('job')}:live", "7")


def test_an_event_that_never_ran_is_run_as_it_was_invoked() -> None:
    finding = resolve(read_letter(destination_record("job:$LATEST", version=None)), Directory())
    assert isinstance(finding, Found)
    assert (str(finding.function), finding.version) == (str(function_arn("job")), "$LATEST")


def test_a_function_of_another_region_is_not_looked_for_here() -> None:
    finding = resolve(read_letter(destination_record("job", region="us-west-2")), Directory())
    assert isinstance(finding, Unresolved)
    assert "us-west-2" in finding.reason


def test_the_only_function_that_names_the_queue_is_the_one() -> None:
    letter = read_letter(record(sender="111122223333"))
    finding = resolve(letter, Directory([candidate("job")]))
    assert isinstance(finding, Found)
    assert (finding.function, finding.version) == (function_arn("job"), "$LATEST")


def test_several_functions_are_told_apart_by_the_role_that_sent_the_message() -> None:
    directory = Directory([candidate("a"), candidate("b")], now={"a": "AROAOTHER", "b": "AROAJOBROLE"})
    finding = resolve(read_letter(record()), directory)
    assert isinstance(finding, Found)
    assert finding.function == function_arn("b")
    assert "role/b" in finding.found_by


def test_functions_that_share_the_senders_role_are_named_and_none_is_picked() -> None:
    functions = [candidate("a", "r"), candidate("b", "r"), candidate("c")]
    directory = Directory(functions, now={"r": "AROAJOBROLE", "c": "AROAC"})
    finding = resolve(read_letter(record()), directory)
    assert isinstance(finding, Unresolved)
    assert "2 functions" in finding.reason
    assert "a, b" in finding.reason
    assert "Next step" in finding.reason


def test_a_single_candidate_with_another_role_than_the_sender_is_not_taken() -> None:
    finding = resolve(read_letter(record()), Directory([candidate("a")], now={"a": "AROAOTHER"}))
    assert isinstance(finding, Unresolved)
    assert "AROAJOBROLE" in finding.reason


def test_a_role_that_was_made_again_is_looked_up_again() -> None:
    directory = Directory([candidate("a")], now={"a": "AROAJOBROLE"}, remembered={"a": "AROAOLD"})
    assert isinstance(resolve(read_letter(record()), directory), Found)


def test_several_functions_and_no_right_to_read_roles_names_the_missing_right() -> None:
    directory = Directory([candidate("a"), candidate("b")], error=AccessRefused("iam:GetRole was refused"))
    finding = resolve(read_letter(record()), directory)
    assert isinstance(finding, Unresolved)
    assert "iam:GetRole" in finding.reason
    assert "a, b" in finding.reason


def test_what_time_mends_is_not_decided_now() -> None:
    with pytest.raises(ServiceUnavailable):
        resolve(read_letter(record()), Directory([candidate("a")], error=ServiceUnavailable("iam:GetRole")))


def test_no_function_that_names_the_queue_tells_how_to_attach_one() -> None:
    finding = choose([], queue_arn=QUEUE)
    assert isinstance(finding, Unresolved)
    assert "immortal attach" in finding.reason


def test_a_long_list_of_candidates_stays_readable() -> None:
    finding = choose([candidate(f"f{number:03}") for number in range(500)], queue_arn=QUEUE)
    assert isinstance(finding, Unresolved)
    assert "and 490 more" in finding.reason
    assert len(finding.reason) < 1000


def test_a_role_that_is_gone_matches_no_sender() -> None:
    only = candidate("a")
    finding = choose_by_role([only], queue_arn=QUEUE, sender_role_id="AROAX", role_ids={only.role_arn: None})
    assert isinstance(finding, Unresolved)
