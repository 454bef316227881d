"""The credentials that a function runs with: fixed ones, or an endpoint that renews them."""

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from immortal_lambda.errors import ImmortalError

RENEW_BEFORE = timedelta(minutes=20)
"""SDKs ask for new credentials when less than 15 minutes remain: serve none that are older."""


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """Credentials that end.

    Attributes:
        expiration: With time zone.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: datetime


@dataclass(frozen=True, slots=True)
class StaticCredentials:
    """Credentials in the function's environment, as on Lambda; they end and can't be renewed."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def variables(self, _address: str) -> dict[str, str]:
        """The environment variables that carry them; the Runtime API's address doesn't matter."""
        token = {"AWS_SESSION_TOKEN": self.session_token} if self.session_token else {}
        keys = {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}
        return keys | token


class EndpointCredentials:
    """Credentials that the function's SDK fetches from the Runtime API's address, renewed before they expire.

    AWS does the same for functions with SnapStart, so SDKs know it.

    Source: Lambda developer guide, "Working with SnapStart"; AWS SDKs and tools reference guide, "Container credential
    provider".
    """

    def __init__(self, renew: Callable[[], TemporaryCredentials]) -> None:
        self._renew = renew
        self._lock = threading.Lock()
        self._current = renew()
        self.token = secrets.token_urlsafe(32)

    def current(self, now: datetime) -> TemporaryCredentials:
        """Credentials that last a while yet, or as long as the last ones do while none can be had.

        Raises:
            ImmortalError: The last ones have expired, and none can be had.
        """
        with self._lock:
            if self._current.expiration - now < RENEW_BEFORE:
                try:
                    self._current = self._renew()
                except ImmortalError:
                    if self._current.expiration <= now:
                        raise
            return self._current

    def document(self) -> Mapping[str, str]:
        """What the endpoint answers."""
        credentials = self.current(datetime.now(UTC))
        return {
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
            "Expiration": credentials.expiration.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def variables(self, address: str) -> dict[str, str]:
        """The environment variables that point to the endpoint.

        Args:
            address: ``host:port`` of the Runtime API.
        """
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{address}/2021-04-23/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.token,
        }


Credentials = StaticCredentials | EndpointCredentials
