"""What a runtime may say when: the Runtime API's rules, without sockets.

Source: Lambda developer guide, "Using the Lambda runtime API"; answers of AWS's runtime interface emulator.
"""

from dataclasses import dataclass
from typing import Literal

from immortal_runner.runtime_api.messages import Reply, refusal

_RESPONSE_MODES = ("", "streaming", "buffered")


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a runtime has come.

    Attributes:
        phase: ``init`` until it first asks for an event, ``failed`` once it said that its init failed.
        request_id: The invocation that it was handed last.
        answered: Whether that one has its answer.
    """

    phase: Literal["init", "ready", "failed"] = "init"
    request_id: str | None = None
    answered: bool = True

    @property
    def busy(self) -> bool:
        """Whether an invocation waits for its answer."""
        return not self.answered

    def handed(self, request_id: str) -> "Standing":
        """After an invocation was handed out."""
        return Standing(self.phase, request_id, answered=False)

    def asked(self) -> "Standing | Reply":
        """After ``next``."""
        if self.phase == "failed":
            return _transition_refused("its init has failed; it can take no invocation")
        return self if self.phase == "ready" else Standing("ready", self.request_id, answered=self.answered)

    def answering(self, request_id: str) -> "Standing | Reply":
        """After a response or an error for an invocation."""
        if request_id != self.request_id:
            return refusal(400, "InvalidRequestID", f"{request_id[:80]} is not the invocation that is under way")
        if self.answered:
            return _transition_refused(f"{request_id} was answered before")
        return Standing(self.phase, request_id)

    def init_failed(self) -> "Standing | Reply":
        """After ``init/error``; Ruby's client says it in the middle of an invocation, which it then ends."""
        if self.phase == "failed" or (self.phase == "ready" and not self.busy):
            return _transition_refused("its init is over")
        return Standing("failed", self.request_id)


def knows_response_mode(mode: str) -> bool:
    """Whether a runtime may post a response in a mode; none is the mode of most."""
    return mode.lower() in _RESPONSE_MODES


def _transition_refused(why: str) -> Reply:
    return refusal(403, "InvalidStateTransition", f"the runtime may not say this now: {why}")
