"""Payloads in S3 itself: those that go there in parts."""

import hashlib
from dataclasses import dataclass
from io import BufferedReader, BytesIO

from immortal_lambda.aws import PayloadBucket
from immortal_lambda.payloads import Stored, fetch, keep
from immortal_local.server import LocalAws


@dataclass
class Pages:
    """Bytes that can be opened."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def open(self) -> BufferedReader:
        return BufferedReader(BytesIO(self.data))


def test_what_is_stored_in_parts_is_fetched_whole(local: LocalAws) -> None:
    s3, data = local.client("s3"), bytes(range(256)) * 80_000
    s3.create_bucket(Bucket="parts", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    bucket = PayloadBucket(s3, "parts")
    payload = keep(Pages(data), name="run/result", bucket=bucket)
    assert payload == Stored(
        "parts", f"runs/run/result/{hashlib.sha256(data).hexdigest()}", hashlib.sha256(data).hexdigest(), len(data)
    )
    assert fetch(payload, bucket) == data
    assert s3.head_object(Bucket="parts", Key=payload.key)["ETag"].endswith('-3"')  # three parts of 8 MB at most
