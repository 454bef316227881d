"""Runs: units of work, their statuses and what may follow what."""

from dataclasses import dataclass
from typing import Literal, get_args

from immortal_lambda.arns import FunctionArn
from immortal_lambda.failures import Failure
from immortal_lambda.payloads import Payload

Kind = Literal["rerun", "continuation", "fan_out", "job"]
Status = Literal["pending", "processing", "complete", "error", "cancelled", "parked"]
STATUSES: tuple[Status, ...] = get_args(Status)

TRANSITIONS: dict[Status, frozenset[Status]] = {
    "pending": frozenset({"processing", "parked", "cancelled"}),
    "processing": frozenset({"pending", "processing", "complete", "error", "parked", "cancelled"}),
    "complete": frozenset(),
    "error": frozenset({"pending"}),
    "cancelled": frozenset(),
    "parked": frozenset({"pending"}),
}
"""What may follow what. ``processing`` follows itself when a lease ran out and another task took over."""

ENDED: frozenset[Status] = frozenset({"complete", "error", "cancelled", "parked"})
"""Statuses in which nothing more happens unless a human says so."""


@dataclass(frozen=True, slots=True)
class RunError:
    """The code's own last word.

    Attributes:
        error_type: As the runtime named it, for example ``ValueError``.
        stack_trace: Lines as the runtime gave them; Python, Node and Java spell them differently.
    """

    error_type: str
    message: str
    stack_trace: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run came from.

    Attributes:
        queue_arn: The queue that held the letter.
        letter_id: SQS ``messageId``.
        failed_ms: When Lambda gave up, Unix milliseconds.
        found_by: How the function was found, in words.
    """

    queue_arn: str
    letter_id: str
    failed_ms: int
    found_by: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One unit of work, one record in the ledger. Times are Unix milliseconds.

    Attributes:
        run_id: Of a rerun, Lambda's own request id where there is one.
        function: The function's name; empty when it could not be found.
        function_arn: As invoked, alias or version included; empty when it could not be found.
        version: The version that failed; empty when the letter doesn't say.
        event: What the handler is given.
        reason: Why the run is parked or waits; empty otherwise.
        attempt: Attempts begun so far.
        launches: Tasks ordered so far, and tasks that took the run after one of their own; the number is part of what
            makes ECS start each of them once.
        refusals: Orders among them that ECS did not take.
        owner: Who holds the claim; empty when nobody does.
        fence: Grows by one with each claim; without the newest, nothing can be recorded.
        lease_until_ms: Until when the claim holds; 0 when nobody holds it.
        due_at_ms: When the reconciler must look at the run; 0 when it needn't.
        handler_ms: When the current attempt's handler was given its event; 0 before.
        result: What the handler returned; of a run that failed, what it had written before.
        note: What an operator should know of the outcome, for example that Lambda would have refused the result.
    """

    run_id: str
    kind: Kind
    status: Status
    event: Payload
    created_ms: int
    updated_ms: int
    function: str = ""
    function_arn: str = ""
    version: str = ""
    failure: Failure | None = None
    origin: Origin | None = None
    reason: str = ""
    attempt: int = 0
    launches: int = 0
    refusals: int = 0
    owner: str = ""
    fence: int = 0
    lease_until_ms: int = 0
    due_at_ms: int = 0
    claimed_ms: int = 0
    handler_ms: int = 0
    ended_ms: int = 0
    result: Payload | None = None
    error: RunError | None = None
    note: str = ""
    task_arn: str = ""
    log_group: str = ""
    log_stream: str = ""

    @property
    def qualifier(self) -> str | None:
        """What GetFunction is asked for: the version that ran, where the letter says it; else the one invoked."""
        return self.version if self.version not in ("", "$LATEST") else FunctionArn.read(self.function_arn).qualifier

    @property
    def ended(self) -> bool:
        """Whether nothing more happens unless a human says so."""
        return self.status in ENDED

    @property
    def launches_accepted(self) -> int:
        """Launches that cost something: what ECS refused began nothing."""
        return self.launches - self.refusals

    def same_code_as(self, other: "Run") -> bool:
        """Whether both were to run the same version of a function, invoked by the same name."""
        mine, its = ((run.kind, run.function_arn, run.version) for run in (self, other))
        return mine == its and bool(self.function_arn)

    def lease_lost(self, now_ms: int) -> bool:
        """Whether the run counts as running although nobody holds a valid claim on it."""
        return self.status == "processing" and self.lease_until_ms < now_ms
