"""The credentials that a function runs with: fixed ones, or an endpoint that renews them."""

import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from immortal_lambda.errors import ImmortalError

RENEW_BEFORE = timedelta(minutes=20)
"""SDKs ask for new credentials when less than 15 minutes remain: serve none that are older."""

RENEW_AGAIN_AFTER = timedelta(seconds=10)
"""How long a renewal that failed is not tried again: near the end of its credentials an SDK asks before each call."""

PATIENCE_S = 1.0
"""How long a function waits for a renewal while its last credentials hold: SDKs give the endpoint two seconds."""

LAST_PATIENCE_S = 30.0
"""How long it waits when they don't hold any longer."""


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


def utc_now() -> datetime:
    """The time, with time zone."""
    return datetime.now(UTC)


class EndpointCredentials:
    """Credentials that the function's SDK fetches from the Runtime API's address, renewed before they expire.

    AWS does the same for functions with SnapStart, so SDKs know it.

    Args:
        renew: Gives new ones; the first at once.
        clock: Tells the time.

    Source: Lambda developer guide, "Working with SnapStart"; AWS SDKs and tools reference guide, "Container credential
    provider".
    """

    def __init__(self, renew: Callable[[], TemporaryCredentials], *, clock: Callable[[], datetime] = utc_now) -> None:
        self._renew = renew
        self._clock = clock
        self._lock = threading.Lock()
        self._renewal: _Renewal | None = None
        self._not_before: datetime | None = None
        self._current = renew()
        self.token = secrets.token_urlsafe(32)

    def current(self) -> TemporaryCredentials:
        """Credentials that last a while yet, or as long as the last ones do while none can be had.

        Raises:
            ImmortalError: The last ones have expired, and none can be had.
        """
        now = self._clock()
        with self._lock:
            left = self._current.expiration - now
            held = self._not_before is not None and now < self._not_before and left > timedelta()
            if left >= RENEW_BEFORE or held:
                return self._current
            renewal = self._renewal = self._renewal or _Renewal(self._renew)
        renewal.wait(PATIENCE_S if left > timedelta() else LAST_PATIENCE_S)
        with self._lock:
            return self._take(renewal, now)

    def document(self) -> Mapping[str, str]:
        """What the endpoint answers."""
        credentials = self.current()
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

    def _take(self, renewal: "_Renewal", now: datetime) -> TemporaryCredentials:
        """What a renewal came to: new credentials, or the last ones while they hold."""
        if renewal is self._renewal and renewal.ended:
            self._renewal = None
            if isinstance(renewal.given, TemporaryCredentials):
                self._current, self._not_before = renewal.given, None
            else:
                self._not_before = now + RENEW_AGAIN_AFTER
        if self._current.expiration <= now:
            raise renewal.failure from None
        return self._current


class _Renewal:
    """One attempt to get new credentials, on a thread of its own: what hangs there holds nobody up."""

    def __init__(self, renew: Callable[[], TemporaryCredentials]) -> None:
        self.given: TemporaryCredentials | Exception | None = None
        self._renew = renew
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="renewal", daemon=True).start()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    @property
    def failure(self) -> ImmortalError:
        if isinstance(self.given, ImmortalError):
            return self.given
        if isinstance(self.given, Exception):
            return CredentialsLate(f"the function's credentials have expired, and new ones can't be had: {self.given}")
        late = "are not here yet" if self.given is None else "have expired already. Next step: check the task's clock"
        return CredentialsLate(f"the function's credentials have expired, and new ones {late}")

    def wait(self, timeout_s: float) -> None:
        self._ended.wait(timeout_s)

    def _run(self) -> None:
        try:
            self.given = self._renew()
        except Exception as error:  # noqa: BLE001  # whatever it is: the last credentials go on serving meanwhile
            self.given = error
            sys.stderr.write(f"the function's credentials can't be renewed yet: {type(error).__name__}: {error}\n")
        finally:
            self._ended.set()


class CredentialsLate(ImmortalError):
    """The last credentials have expired while new ones are asked for. Nobody acts: the SDK asks again."""

    retryable = True


Credentials = StaticCredentials | EndpointCredentials
