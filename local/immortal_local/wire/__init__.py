"""The wire: AWS requests read, and answers written, by botocore's own service models.

Protocols: ``json`` (the operation is named by ``X-Amz-Target``), ``rest-json`` (by method and path) and ``query`` (in a
form, see ``query.py``).
"""

from immortal_local.wire.service import Service, answer
from immortal_local.wire.values import ApiError, Call, HttpAnswer, HttpRequest, Operation

__all__ = ["ApiError", "Call", "HttpAnswer", "HttpRequest", "Operation", "Service", "answer"]
