"""A log stream, read on from where the last look ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient


@dataclass(frozen=True, slots=True)
class Line:
    """One event of a log.

    Attributes:
        at_ms: Unix milliseconds.
        text: Without the line's end.
    """

    at_ms: int
    text: str


@dataclass(slots=True)
class Tail:
    """Reads an attempt's part of a stream of CloudWatch Logs; another part than last time is read from its beginning.

    A task that takes several runs logs them to one stream, one after the other: an attempt's part lasts from its claim
    to its end.
    """

    logs: CloudWatchLogsClient
    _part: tuple[str, str, int] = ("", "", 0)
    _token: str = ""

    def new_lines(self, group: str, stream: str, *, from_ms: int = 0, until_ms: int = 0) -> Iterator[Line]:
        """Give the lines that came since the last look; none while the stream isn't there.

        Args:
            group: The log group.
            stream: The log stream.
            from_ms: Where the part begins, Unix milliseconds.
            until_ms: Where it ends; 0 while it goes on.
        """
        if (group, stream, from_ms) != self._part:
            self._part, self._token = (group, stream, from_ms), ""
        while True:
            token: Any = {"nextToken": self._token} if self._token else {}
            try:
                page = self.logs.get_log_events(
                    logGroupName=group, logStreamName=stream, startTime=from_ms, startFromHead=True, **token
                )
            except self.logs.exceptions.ResourceNotFoundException:
                return
            for event in page["events"]:
                if from_ms <= (at_ms := event.get("timestamp", 0)) <= (until_ms or at_ms):
                    yield Line(at_ms, event.get("message", "").rstrip("\n"))
            if page["nextForwardToken"] == self._token:
                return  # CloudWatch says that nothing is left by giving the same token again
            self._token = page["nextForwardToken"]
