"""Finding the function that a dead letter came from, and never guessing it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from immortal_lambda.arns import FunctionArn
from immortal_lambda.errors import AccessRefused
from immortal_lambda.letters import DeadLetter

_NAMED_AT_MOST = 10
_REDRIVE = "then immortal runs redrive this run with --function NAME; its event is kept"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A function whose ``DeadLetterConfig`` names the queue that a letter lay in.

    Attributes:
        function: Without qualifier; a letter from a dead-letter queue doesn't say which version ran.
        role_arn: The function's execution role.
        log_group: Where it logs.
    """

    function: FunctionArn
    role_arn: str
    log_group: str


@dataclass(frozen=True, slots=True)
class Found:
    """The function that a letter came from.

    Attributes:
        function: As the context showed it on Lambda.
        version: The version to run.
        found_by: The way to it, in words.
    """

    function: FunctionArn
    version: str
    found_by: str


@dataclass(frozen=True, slots=True)
class Unresolved:
    """No single function can have sent the letter; the reason names what was found and the next step."""

    reason: str


Finding = Found | Unresolved


class Directory(Protocol):
    """All that finding a function asks of AWS. ``aws.py`` asks boto3; the tests ask a fake."""

    def candidates(self, queue_arn: str, *, sent_ms: int) -> Sequence[Candidate]:
        """Give the functions that name a queue as their dead-letter queue, listed no earlier than the letter was sent.

        Raises:
            AccessRefused: The functions may not be listed.
            ServiceUnavailable: Time mends it.
        """
        ...

    def has_versions(self, function: FunctionArn, *, sent_ms: int) -> bool:
        """Whether a function had published versions when a letter was sent.

        Raises:
            AccessRefused: They may not be listed.
            ServiceUnavailable: Time mends it.
        """
        ...

    def logged_version(self, log_group: str, request_id: str, *, sent_ms: int) -> str | None:
        """Give the version that logged a request; None when its log doesn't show it.

        Raises:
            AccessRefused: The log may not be read.
            ServiceUnavailable: Time mends it, a log that lags behind included.
        """
        ...

    def role_id(self, role_arn: str, *, fresh: bool) -> str | None:
        """Give a role's unique id; None when the role is gone. Not ``fresh``: as once seen.

        Raises:
            AccessRefused: The role may not be read.
            ServiceUnavailable: Time mends it.
        """
        ...


def resolve(letter: DeadLetter, directory: Directory) -> Finding:
    """Find the function that a letter came from, and the version of it that failed.

    A destination's record says both. A dead-letter queue's message says neither: then the functions that name the queue
    are the candidates, and the unique id of the role that sent the message must be the role of exactly one of them. Of
    a function with published versions, its log must show which one ran.

    Raises:
        ServiceUnavailable: Time mends it.
    """
    if letter.function is not None:
        return _read_destination(letter, letter.function)
    try:
        candidates = directory.candidates(letter.queue_arn, sent_ms=letter.failed_ms)
        finding = _choose(candidates, letter, directory)
        return _find_version(finding, candidates, letter, directory) if isinstance(finding, Found) else finding
    except AccessRefused as error:
        return Unresolved(f"the function could not be looked for: {error}, {_REDRIVE}")


def _choose(candidates: Sequence[Candidate], letter: DeadLetter, directory: Directory) -> Finding:
    if letter.sender_role_id is None or not candidates:
        return choose(candidates, queue_arn=letter.queue_arn)
    try:
        return _choose_by_role(candidates, letter, letter.sender_role_id, directory)
    except AccessRefused as error:
        if len(candidates) == 1:
            return choose(candidates, queue_arn=letter.queue_arn)
        return Unresolved(f"{_several(candidates, letter.queue_arn)}, and their roles could not be read: {error}")


def _find_version(found: Found, candidates: Sequence[Candidate], letter: DeadLetter, directory: Directory) -> Finding:
    """Find the version that ran: code that was never released must not take the place of the code that failed."""
    if not directory.has_versions(found.function, sent_ms=letter.failed_ms):
        return found
    (log_group,) = (each.log_group for each in candidates if each.function == found.function)
    version = directory.logged_version(log_group, letter.request_id, sent_ms=letter.failed_ms)
    if version is None:
        return Unresolved(
            f"{found.function.name} has published versions, and neither the message nor {log_group} says which one "
            f"ran. Next step: give it an on-failure destination, whose records name the version; {_REDRIVE}"
        )
    return replace(found, version=version, found_by=f"{found.found_by}; by its log, version {version} ran")


def choose(candidates: Sequence[Candidate], *, queue_arn: str) -> Finding:
    """Decide between candidates when nothing is known about the sender."""
    match candidates:
        case []:
            return Unresolved(
                f"no function's DeadLetterConfig names {queue_arn}: the function was deleted or detached, or the "
                f"message came another way. Next step: immortal attach NAME for its function, {_REDRIVE}"
            )
        case [only]:
            return _found(only, f"the only function whose DeadLetterConfig names {queue_arn}")
        case _:
            return Unresolved(
                f"{_several(candidates, queue_arn)}, and the message doesn't say which role sent it. Next step: give "
                f"each function its own queue or an on-failure destination, {_REDRIVE}"
            )


def choose_by_role(
    candidates: Sequence[Candidate], *, queue_arn: str, sender_role_id: str, role_ids: Mapping[str, str | None]
) -> Finding:
    """Decide between candidates by the role that sent the message.

    Args:
        candidates: At least one.
        role_ids: Unique id of each candidate's role, by the role's ARN; None where the role is gone.

    Source: the form of ``SenderId`` is not documented; it was recorded from AWS.
    """
    senders = [candidate for candidate in candidates if role_ids.get(candidate.role_arn) == sender_role_id]
    match senders:
        case [only]:
            return _found(only, f"its DeadLetterConfig names {queue_arn} and its role {only.role_arn} sent the message")
        case []:
            return Unresolved(
                f"the role with the id {sender_role_id} sent the message, which is the role of none of the functions "
                f"whose DeadLetterConfig names {queue_arn}: {_names(candidates)}. The function was detached or got "
                f"another role since. Next step: immortal attach NAME for the one that had that role, {_REDRIVE}"
            )
        case _:
            return Unresolved(
                f"{_several(senders, queue_arn)} and share the role {senders[0].role_arn}, which sent the message. "
                f"Next step: give each function its own role, its own queue or an on-failure destination, {_REDRIVE}"
            )


def _choose_by_role(
    candidates: Sequence[Candidate], letter: DeadLetter, sender_role_id: str, directory: Directory
) -> Finding:
    finding: Finding = Unresolved("")
    for fresh in (False, True):  # a role that was deleted and made again has another id than the one once seen
        roles = {candidate.role_arn for candidate in candidates}
        finding = choose_by_role(
            candidates,
            queue_arn=letter.queue_arn,
            sender_role_id=sender_role_id,
            role_ids={role: directory.role_id(role, fresh=fresh) for role in sorted(roles)},
        )
        if isinstance(finding, Found):
            return finding
    return finding


def _read_destination(letter: DeadLetter, function: FunctionArn) -> Finding:
    _, _, _, region, account, _ = letter.queue_arn.split(":", 5)
    if (function.region, function.account) != (region, account):
        return Unresolved(
            f"{function} lives in another account or region than {letter.queue_arn}. Next step: deploy immortal beside "
            "the function and let its on-failure destination name the failure queue there, then send the event again; "
            "it is kept with this run"
        )
    return Found(
        function.as_invoked,
        letter.executed_version or function.qualifier or "$LATEST",
        "named by the record of its on-failure destination",
    )


def _found(candidate: Candidate, found_by: str) -> Found:
    return Found(candidate.function.unqualified, "$LATEST", found_by)


def _several(candidates: Sequence[Candidate], queue_arn: str) -> str:
    return f"{len(candidates)} functions name {queue_arn} in their DeadLetterConfig: {_names(candidates)}"


def _names(candidates: Iterable[Candidate]) -> str:
    names = sorted(candidate.function.name for candidate in candidates)
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
