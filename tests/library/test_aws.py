from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader

from immortal_lambda import aws
from immortal_lambda.aws import Clients, open_bucket, session


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")


@pytest.mark.parametrize("service", ["dynamodb", "lambda", "logs", "s3", "sts"])
def test_services_are_described_as_botocore_describes_them(service: str) -> None:
    session.cache_clear()  # clients add to what their session has read
    ours: Any = session().get_component("data_loader")
    for kind in ("service-2", "endpoint-rule-set-1"):
        assert ours.load_service_model(service, kind) == Loader().load_service_model(service, kind)
    assert ours.load_data("endpoints") == Loader().load_data("endpoints")


def test_a_service_that_there_is_not_is_named() -> None:
    with pytest.raises(UnknownServiceError, match="lambada"):
        Clients()("lambada")


def test_a_client_is_made_once_however_many_ask_for_it() -> None:
    clients = Clients()
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: clients(("sts", "logs")[number % 2]), range(16)))
    assert len(set(map(id, made))) == 2


def test_the_buckets_client_is_made_when_something_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(service: str) -> Any:
        made.append(service)
        raise ConnectionError

    monkeypatch.setattr(aws, "client", make)
    bucket = open_bucket("payloads")
    assert made == []
    with pytest.raises(ConnectionError):
        bucket.put("key", b"data")
    assert made == ["s3"]
