"""What the library asks of AWS; the one file of this room that knows boto3.

botocore is imported when a client is first made: importing the library costs the standard library alone. What boto3
adds to it is imported for S3 only: it takes a tenth of a second and 3 MB.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from immortal_lambda.attribute_values import marshal, unmarshal
from immortal_lambda.errors import AccessRefused, ServiceUnavailable
from immortal_lambda.ledger import ConditionFailed, Ledger

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

_PASSING = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServerException",
        "ServiceException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


class Clients:
    """The clients of a process. Each is made once, when it is first asked for; whoever asks meanwhile waits for it.

    One lock keeps them apart: making a client is the one thing that botocore can't do in several threads.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, float | None], Any] = {}
        self._making = threading.Lock()

    def __call__(self, service: str, patience_s: float | None = None) -> Any:
        """A client for a service; it obeys ``AWS_ENDPOINT_URL`` and the usual environment.

        Args:
            service: As boto3 names it.
            patience_s: With it, a call is made once and given up after so long; without, it is tried up to five times.
        """
        key = (service, patience_s)
        if key not in self._made:
            with self._making:
                if key not in self._made:
                    self._made[key] = _make_client(service, patience_s)
        return self._made[key]

    def cache_clear(self) -> None:
        """Forget them all: the next are made for what the environment says then."""
        self._made.clear()


client = Clients()


def _make_client(service: str, patience_s: float | None) -> Any:
    from botocore.config import Config  # noqa: PLC0415  # importing the library must not cost botocore

    attempts, read_timeout_s = (5, 20.0) if patience_s is None else (1, patience_s)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=min(5.0, read_timeout_s),
        read_timeout=read_timeout_s,
    )
    if service != "s3":
        return cast("Any", session().create_client)(service, config=config)
    import boto3  # noqa: PLC0415  # it adds the transfer of files in parts

    return cast("Any", boto3.Session(botocore_session=session()).client)(service, config=config)


@cache
def session() -> Session:
    """The session that all clients belong to; whoever listens to its events hears every call.

    botocore reads its descriptions of services into ordered dictionaries, and before each it looks for that of every
    other service. Plain dictionaries have an order, too, and are read five times as fast; both together spare a task
    0.1 s before its handler begins, and a tenth of its memory.
    """
    from botocore.loaders import JSONFileLoader, Loader  # noqa: PLC0415
    from botocore.session import get_session  # noqa: PLC0415

    class Files(JSONFileLoader):
        def load_file(self, file_path: str) -> Any:
            """Read a file that may be packed; None where there is none."""
            for suffix in (".json", ".json.gz"):
                if (file := Path(file_path + suffix)).is_file():
                    return json.loads(_unpacked(file))
            return None

    class Descriptions(Loader):
        def list_available_services(self, type_name: str) -> list[str]:
            """All that may be described as is asked; whether one is, comes out when it is loaded."""
            del type_name
            return [
                file.name for folder in map(Path, self.search_paths) if folder.is_dir() for file in folder.iterdir()
            ]

    made = get_session()
    paths = made.get_config_variable("data_path")
    descriptions = Descriptions(paths.split(os.pathsep) if paths else None, file_loader=Files())
    made.register_component("data_loader", descriptions)
    return made


def _unpacked(file: Path) -> bytes:
    if file.suffix != ".gz":
        return file.read_bytes()
    import gzip  # noqa: PLC0415  # importing the library must not cost it

    return gzip.decompress(file.read_bytes())


@contextmanager
def translated(call: str) -> Iterator[None]:
    """Turn what boto3 raises into errors that say who must act.

    Raises:
        ServiceUnavailable: Time mends it.
        AccessRefused: Somebody must grant a permission.
    """
    from botocore import exceptions  # noqa: PLC0415

    passing = (
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.CredentialRetrievalError,
        exceptions.MetadataRetrievalError,
    )
    try:
        yield
    except exceptions.ClientError as error:
        code, status = error_code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _REFUSED:
            raise AccessRefused(f"{call} was refused: {error}. Next step: grant it to the role named there") from error
        if code in _PASSING or status >= 500:  # noqa: PLR2004  # HTTP: the server's own fault
            raise ServiceUnavailable(f"{call}: {error}") from error
        raise
    except passing as error:
        raise ServiceUnavailable(f"{call}: {error}") from error
    except exceptions.BotoCoreError as error:
        raise AccessRefused(f"{call} could not be asked: {error}. Next step: check region and credentials") from error


@dataclass(frozen=True, slots=True)
class DynamoTable:
    """The ledger's table in DynamoDB."""

    dynamodb: DynamoDBClient
    name: str

    def put_new(self, item: Mapping[str, Any]) -> None:
        """Write an item unless one with its key stands there."""
        with translated("dynamodb:PutItem"), _conditional():
            self.dynamodb.put_item(
                TableName=self.name,
                Item=marshal(item),
                ConditionExpression="attribute_not_exists(run_id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )

    def update(
        self,
        key: Mapping[str, Any],
        expression: str,
        condition: str,
        names: Mapping[str, str],
        values: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Change an item if the condition holds."""
        with translated("dynamodb:UpdateItem"), _conditional():
            answer = self.dynamodb.update_item(
                TableName=self.name,
                Key=marshal(key),
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=marshal(values),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        return unmarshal(answer["Attributes"])

    def get(self, key: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Read an item, consistently."""
        with translated("dynamodb:GetItem"):
            answer = self.dynamodb.get_item(TableName=self.name, Key=marshal(key), ConsistentRead=True)
        return unmarshal(answer["Item"]) if "Item" in answer else None

    def query(
        self,
        index: str,
        condition: str,
        names: Mapping[str, str],
        values: Mapping[str, Any],
        *,
        forward: bool,
        page: int,
    ) -> Iterator[Mapping[str, Any]]:
        """Read items of an index, page by page, as they are asked for."""
        pages = self.dynamodb.get_paginator("query").paginate(
            TableName=self.name,
            IndexName=index,
            KeyConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=marshal(values),
            ScanIndexForward=forward,
            PaginationConfig={"PageSize": page},
        )
        with translated("dynamodb:Query"):
            for answer in pages:
                yield from map(unmarshal, answer["Items"])


@dataclass(frozen=True, slots=True)
class PayloadBucket:
    """The bucket that keeps what outgrows the ledger."""

    s3: S3Client
    name: str

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key."""
        with translated("s3:PutObject"):
            self.s3.put_object(Bucket=self.name, Key=key, Body=data)

    def upload(self, key: str, source: BufferedReader) -> None:
        """Store what a reader gives under a key: one part of 8 MB after the other, and one in memory at a time."""
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415

        with translated("s3:PutObject"):
            self.s3.upload_fileobj(source, self.name, key, Config=TransferConfig(use_threads=False))

    def get(self, bucket: str, key: str) -> bytes | None:
        """Fetch what lies under a key; None when nothing does."""
        with translated("s3:GetObject"):
            try:
                return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            except (self.s3.exceptions.NoSuchKey, self.s3.exceptions.NoSuchBucket):
                return None


def open_ledger(table: str, patience_s: float | None = None) -> Ledger:
    """The ledger in a table of this account and region; for ``patience_s`` see :class:`Clients`."""
    return Ledger(DynamoTable(client("dynamodb", patience_s), table))


def open_bucket(name: str) -> PayloadBucket:
    """The payloads' bucket of this account; most runs' payloads lie in the ledger, and its client is made when used."""
    return PayloadBucket(cast("S3Client", _MadeWhenUsed("s3")), name)


class _MadeWhenUsed:
    """A client that is made when it is first asked for something."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(client(self._service), name)


@contextmanager
def _conditional() -> Iterator[None]:
    from botocore.exceptions import ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        if error_code(error) != "ConditionalCheckFailedException":
            raise
        item: Any = error.response.get("Item")
        raise ConditionFailed(unmarshal(item) if item else None) from error


def error_code(error: Exception) -> str:
    """The code of an error that AWS answered; empty for any other error."""
    answer: dict[str, Any] = getattr(error, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))
