"""Archives: the zips of functions and layers, kept on disk by their content."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from immortal_local.wire import ApiError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["MAX_UNZIPPED_BYTES", "MAX_ZIPPED_BYTES", "Archive", "keep_archive", "read_source"]

MAX_ZIPPED_BYTES = 50 * 1024 * 1024
"""For a zip inside a request; one that comes from S3 is only limited unzipped. Source: Lambda quotas."""

MAX_UNZIPPED_BYTES = 250 * 1024 * 1024
"""For a function's code and all its layers together. Source: Lambda quotas."""

_REQUEST_BYTES = 69_905_067


@dataclass(frozen=True, slots=True)
class Archive:
    """One zip.

    Attributes:
        sha256: base64 of the zip's SHA-256, as ``CodeSha256`` gives it.
        file: Where the zip lies.
    """

    file: Path
    sha256: str
    zipped_bytes: int
    unzipped_bytes: int


def read_source(source: Mapping[str, Any], s3: "S3Client", *, operation: str) -> bytes:
    """Take the zip out of a request's ``Code`` or ``Content``, or fetch it from S3.

    Raises:
        ApiError: There is no zip, it is too big, or S3 doesn't have it.
    """
    if (zipped := source.get("ZipFile")) is not None:
        if len(zipped) > MAX_ZIPPED_BYTES:
            text = f"Request must be smaller than {_REQUEST_BYTES} bytes for the {operation} operation"
            raise ApiError("RequestEntityTooLargeException", text, 413)
        return bytes(zipped)
    if "S3Bucket" in source and "S3Key" in source:
        return _fetch(source, s3)
    raise ApiError("InvalidParameterValueException", "Please provide a source for function code.")


def _fetch(source: Mapping[str, Any], s3: "S3Client") -> bytes:
    version = {"VersionId": source["S3ObjectVersion"]} if "S3ObjectVersion" in source else {}
    try:
        answer = s3.get_object(Bucket=source["S3Bucket"], Key=source["S3Key"], **version)
    except ClientError as error:
        said: Any = error.response["Error"]  # pyright: ignore[reportTypedDictNotRequiredAccess]  # S3 always sends it
        text = f"Error occurred while GetObject. S3 Error Code: {said['Code']}. S3 Error Message: {said['Message']}"
        raise ApiError("InvalidParameterValueException", text) from error
    return answer["Body"].read()


def keep_archive(zipped: bytes, folder: Path) -> Archive:
    """Check a zip and keep it in a folder under its hash.

    Raises:
        ApiError: It is empty, no zip, or too big when unzipped.
    """
    unzipped_bytes = _measure(zipped)
    if unzipped_bytes > MAX_UNZIPPED_BYTES:
        raise ApiError(
            "InvalidParameterValueException", f"Unzipped size must be smaller than {MAX_UNZIPPED_BYTES} bytes"
        )
    digest = hashlib.sha256(zipped)
    file = folder / f"{digest.hexdigest()}.zip"
    if not file.exists():
        file.write_bytes(zipped)
    return Archive(file, base64.b64encode(digest.digest()).decode(), len(zipped), unzipped_bytes)


def _measure(zipped: bytes) -> int:
    if not zipped:
        raise ApiError("InvalidParameterValueException", "Uploaded file must be a non-empty zip")
    try:
        with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        message = "Could not unzip uploaded file. Please check your file, then try to upload again."
        raise ApiError("InvalidParameterValueException", message) from error
