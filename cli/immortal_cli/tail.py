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
    """Reads a stream of CloudWatch Logs; another stream than last time is read from its beginning."""

    logs: CloudWatchLogsClient
    _stream: tuple[str, str] = ("", "")
    _token: str = ""

    def new_lines(self, group: str, stream: str) -> Iterator[Line]:
        """Give the lines that came since the last look; none while the stream isn't there."""
        if (group, stream) != self._stream:
            self._stream, self._token = (group, stream), ""
        while True:
            token: Any = {"nextToken": self._token} if self._token else {}
            try:
                page = self.logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, **token)
            except self.logs.exceptions.ResourceNotFoundException:
                return
            for event in page["events"]:
                yield Line(event.get("timestamp", 0), event.get("message", "").rstrip("\n"))
            if page["nextForwardToken"] == self._token:
                return  # CloudWatch says that nothing is left by giving the same token again
            self._token = page["nextForwardToken"]
