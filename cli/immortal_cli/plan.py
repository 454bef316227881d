"""What attaching and detaching a function changes, decided as values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from immortal_runner.runtimes.table import RUNTIMES

NOTHING = "none"
"""What is remembered where ``DeadLetterConfig`` named nothing: a tag's value may not tell empty from absent."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What functions are attached to.

    Attributes:
        name: Name of the installation.
        queue_arn: The failure queue; empty where its stack is gone, which only detaching can bear.
        task_role_arn: The runner's role; empty likewise.
    """

    name: str
    queue_arn: str
    task_role_arn: str

    def owns(self, target: str) -> bool:
        """Whether a target is the failure queue; no target is that of an installation whose queue is gone."""
        return bool(target) and target == self.queue_arn

    @property
    def policy_name(self) -> str:
        """Name of the inline policy that lets a function's role send its letters."""
        return f"immortal-{self.name}-letters"

    @property
    def sid(self) -> str:
        """Id of the statement by which a function's role trusts the runner; letters and digits only."""
        suffix = "" if self.name == "immortal" else "".join(filter(str.isalnum, self.name.title()))
        return f"ImmortalRunner{suffix}"

    @property
    def send_policy(self) -> dict[str, Any]:
        """The inline policy of a function's role."""
        statement = {"Sid": "Letters", "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": self.queue_arn}
        return {"Version": "2012-10-17", "Statement": [statement]}

    @property
    def trust(self) -> dict[str, Any]:
        """The statement by which a function's role trusts the runner."""
        principal = {"AWS": self.task_role_arn}
        return {"Sid": self.sid, "Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}


@dataclass(frozen=True, slots=True)
class Role:
    """A function's role as it is now.

    Attributes:
        send_policy: Our inline policy on it; None where it has none.
        trust: The whole document that says who may assume it.
    """

    name: str
    send_policy: Mapping[str, Any] | None
    trust: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a function keeps in its tags while it is attached.

    Attributes:
        before: What its ``DeadLetterConfig`` named when it was nobody's of ours; ``NOTHING`` when it named nothing.
        ours: What attaching made it name; by this a target of ours is told from one that somebody set since.
        installation: Name of the installation that it is attached to.
    """

    before: str
    ours: str
    installation: str


@dataclass(frozen=True, slots=True)
class FunctionState:
    """A function as it is now.

    Attributes:
        target: What its ``DeadLetterConfig`` names; empty when it names nothing.
        memory: None when the function isn't attached.
        runtime: Empty for a container image.
        released: Whether it has published versions.
        sharers: Other functions with the same role that name the failure queue.
    """

    name: str
    arn: str
    role: Role
    target: str
    memory: Memory | None
    runtime: str
    released: bool = False
    sharers: tuple[str, ...] = ()

    @property
    def names_ours(self) -> bool:
        """Whether its ``DeadLetterConfig`` still names what attaching made it name."""
        return self.memory is not None and self.target == self.memory.ours


@dataclass(frozen=True, slots=True)
class PutSendPolicy:
    """Let a role send letters to the failure queue; without a document, take that back."""

    role: str
    policy: str
    document: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class PutTrust:
    """Say anew who may assume a role."""

    role: str
    document: Mapping[str, Any]
    runner_trusted: bool


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep on the function what its ``DeadLetterConfig`` named before; None forgets it."""

    function_arn: str
    memory: Memory | None


@dataclass(frozen=True, slots=True)
class NameTarget:
    """Change what a function's ``DeadLetterConfig`` names; empty names nothing."""

    function: str
    before: str
    target: str


Step = PutSendPolicy | PutTrust | Remember | NameTarget


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are carried out, and what the operator should know of them."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()


def plan_attach(functions: Sequence[FunctionState], installation: Installation) -> Plan:
    """Decide what makes the failure queue the dead-letter queue of functions.

    The role may send before the queue is named: Lambda checks that when it is told the name.
    """
    steps: list[Step] = []
    for role in _roles(functions):
        if role.send_policy != installation.send_policy:
            steps.append(PutSendPolicy(role.name, installation.policy_name, installation.send_policy))
        if installation.trust not in _statements(role.trust):
            steps.append(PutTrust(role.name, _with_trust(role.trust, installation), runner_trusted=True))
    for function in functions:
        steps += _name_queue(function, installation)
    return Plan(tuple(steps), tuple(note for function in functions for note in _notes(function, functions)))


def plan_detach(functions: Sequence[FunctionState], installation: Installation) -> Plan:
    """Decide what puts functions back as they were before they were attached.

    What others set in the meantime stays, and a role keeps what another attached function needs.
    """
    steps: list[Step] = []
    notes: list[str] = []
    for function in functions:
        restored, said = _restore_target(function, installation)
        steps += restored
        notes += said
    for role in _roles(functions):
        if users := _remaining_users(role, functions, installation):
            notes.append(f"{role.name}: keeps its rights, which {', '.join(users)} still needs")
            continue
        if role.send_policy is not None:
            steps.append(PutSendPolicy(role.name, installation.policy_name, None))
        if any(statement.get("Sid") == installation.sid for statement in _statements(role.trust)):
            steps.append(PutTrust(role.name, _without_trust(role.trust, installation), runner_trusted=False))
    return Plan(tuple(steps), tuple(notes))


def describe_step(step: Step) -> tuple[str, str, str]:
    """Say a step as what it touches, which part, and the change."""
    match step:
        case PutSendPolicy(role, policy, document):
            change = "taken back" if document is None else f"sqs:SendMessage on {document['Statement'][0]['Resource']}"
            return f"role {role}", f"inline policy {policy}", change
        case PutTrust(role, _, runner_trusted):
            return f"role {role}", "trust", "the runner's task role may assume it" if runner_trusted else "taken back"
        case Remember(function_arn, memory):
            change = "forgotten" if memory is None else f"remembered: {memory.before}"
            return f"function {function_arn.rpartition(':')[2]}", "tags immortal:*", change
        case NameTarget(function, before, target):
            return f"function {function}", "DeadLetterConfig", f"{before or NOTHING} → {target or NOTHING}"


def _name_queue(function: FunctionState, installation: Installation) -> list[Step]:
    """Name the failure queue, and remember what stood there unless that was ours too.

    The first memory is written before the queue is named, a later one after it: whoever is interrupted in between can
    attach or detach again.
    """
    name = NameTarget(function.name, function.target, installation.queue_arn)
    if function.memory is not None and (function.names_ours or function.target == installation.queue_arn):
        memory = Memory(function.memory.before, installation.queue_arn, installation.name)
        renamed: list[Step] = [name] if function.target != installation.queue_arn else []
        return [*renamed, Remember(function.arn, memory)] if memory != function.memory else []
    if function.target == installation.queue_arn:
        return []
    return [Remember(function.arn, Memory(function.target or NOTHING, installation.queue_arn, installation.name)), name]


def _restore_target(function: FunctionState, installation: Installation) -> tuple[list[Step], list[str]]:
    """Name again what was named before, where nobody has named something else since; and say why not otherwise."""
    memory, is_queue = function.memory, installation.owns(function.target)
    if memory is None:
        unknown = f"{function.name}: its DeadLetterConfig was not set by immortal attach; left as it is"
        return [], [unknown] if is_queue else []
    if not is_queue and memory.installation != installation.name:
        other = f"immortal detach {function.name} --name {memory.installation}"
        return [], [f"{function.name}: is attached to another installation; left as it is. Next step: {other}"]
    forget = Remember(function.arn, None)
    if is_queue or function.names_ours:
        before = "" if memory.before == NOTHING else memory.before
        return [NameTarget(function.name, function.target, before), forget], []
    return [forget], [f"{function.name}: its DeadLetterConfig was changed since; left as it is"]


def _roles(functions: Sequence[FunctionState]) -> list[Role]:
    return list({function.role.name: function.role for function in functions}.values())


def _notes(function: FunctionState, attached: Sequence[FunctionState]) -> Iterator[str]:
    beside = {other.name for other in attached if other.role.name == function.role.name} - {function.name}
    if sharers := sorted({*function.sharers, *beside}):
        yield (
            f"{function.name}: shares the role {function.role.name} with {', '.join(sharers)}. A letter names only the "
            "role, so theirs can't be told apart and would be parked. Better: one role per function"
        )
    if function.runtime and function.runtime not in RUNTIMES:
        yield f"{function.name}: the runner does not carry out {function.runtime}; its runs would be parked"
    if function.released:
        yield (
            f"{function.name}: has published versions, and a letter from its dead-letter queue doesn't say which one "
            "failed. The dispatcher looks it up in the function's log, and parks the run where the log doesn't tell. "
            "Better: an on-failure destination, whose records say it"
        )


def _remaining_users(role: Role, detached: Sequence[FunctionState], installation: Installation) -> list[str]:
    own = [function for function in detached if function.role.name == role.name]
    names = {function.name for function in own}
    left = {each.name for each in own if each.memory is None and installation.owns(each.target)}
    return sorted(left | {sharer for function in own for sharer in function.sharers if sharer not in names})


def _statements(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A policy's statements; IAM takes a single one without a list."""
    statements = document.get("Statement", [])
    return [statements] if isinstance(statements, Mapping) else list(statements)


def _with_trust(document: Mapping[str, Any], installation: Installation) -> dict[str, Any]:
    """The document with our statement; one of an earlier installation, whose role is gone, is replaced."""
    others = _statements(_without_trust(document, installation))
    return {"Version": "2012-10-17", **document, "Statement": [*others, installation.trust]}


def _without_trust(document: Mapping[str, Any], installation: Installation) -> dict[str, Any]:
    others = [statement for statement in _statements(document) if statement.get("Sid") != installation.sid]
    return {**document, "Statement": others}
