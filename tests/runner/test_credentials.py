from datetime import UTC, datetime, timedelta

import pytest

from immortal_lambda.errors import ServiceUnavailable
from immortal_runner.execution.credentials import EndpointCredentials, StaticCredentials, TemporaryCredentials

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def lasting(minutes: int, name: str = "ASIA1") -> TemporaryCredentials:
    return TemporaryCredentials(name, "secret-key", "secret-token", NOW + timedelta(minutes=minutes))


def test_credentials_that_can_not_be_renewed_serve_until_they_expire() -> None:
    given = [lasting(15)]

    def renew() -> TemporaryCredentials:
        if not given:
            raise ServiceUnavailable("STS is away")
        return given.pop()

    credentials = EndpointCredentials(renew)
    assert credentials.current(NOW).access_key_id == "ASIA1"
    with pytest.raises(ServiceUnavailable):
        credentials.current(NOW + timedelta(minutes=15))
    given.append(lasting(60, "ASIA2"))
    assert credentials.current(NOW + timedelta(minutes=16)).access_key_id == "ASIA2"


def test_secrets_are_not_shown() -> None:
    shown = repr([lasting(60), StaticCredentials("AKIA", "secret-key", "secret-token")])
    assert "secret" not in shown.replace("secret_access_key", "")
