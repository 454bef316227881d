"""Services: the operations that are answered here, and how one call goes from its request to its answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from botocore.model import ServiceModel

from immortal_local.wire import query
from immortal_local.wire.checking import check_parameters
from immortal_local.wire.reading import read_parameters
from immortal_local.wire.routes import find_model, match_route
from immortal_local.wire.values import ApiError, Call, HttpAnswer, HttpRequest, Operation
from immortal_local.wire.writing import write_answer, write_error

__all__ = ["Service", "answer"]


@dataclass(frozen=True)
class Service:
    """One AWS service, or the part of it that is answered here instead of by the emulator.

    Attributes:
        name: botocore's service name, which is also the name in the signature's scope.
        operations: What is answered here, by operation name.
        whole: Nothing of this service falls through to the emulator.
        kept: Operations that don't fall through either, though they are not answered here yet.
        constrained: Check lengths, ranges, patterns and enumerations of the model, and refuse in AWS's own words.
    """

    name: str
    operations: Mapping[str, Operation]
    whole: bool = False
    kept: frozenset[str] = frozenset()
    constrained: bool = False

    @cached_property
    def model(self) -> ServiceModel:
        """The service's model of the installed botocore."""
        return find_model(self.name)

    def owns(self, request: HttpRequest) -> bool:
        """Whether the request is answered here, be it by a refusal."""
        name = self.operation_name(request)
        return self.whole or name in self.operations or name in self.kept

    def operation_name(self, request: HttpRequest) -> str | None:
        """The operation that a request names, None if the model has none for it."""
        if self.model.protocol == "rest-json":
            match = match_route(self.name, request)
            return match.operation if match else None
        if self.model.protocol == "query":
            name = query.read_operation_name(request.body) or ""
            return name if name in self.model.operation_names else None
        _, _, name = request.headers.get("x-amz-target", "").rpartition(".")
        return name if name in self.model.operation_names else None


def answer(
    service: Service, request: HttpRequest, *, region: str, account: str, access_key_id: str, request_id: str
) -> HttpAnswer:
    """Carry out the operation that a request names.

    Every :class:`ApiError` becomes an answer; other exceptions are the local AWS's own faults and pass through.
    """
    name = service.operation_name(request)
    operation = service.model.operation_model(name) if name else None
    try:
        if operation is None or operation.name not in service.operations:
            raise _not_implemented(service, name or f"{request.method} {request.path}")
        parameters = read_parameters(operation, request)
        check_parameters(parameters, operation.input_shape, constrained=service.constrained)
        call = Call(operation.name, parameters, region, account, access_key_id, request_id, request.headers)
        written = write_answer(operation, service.operations[operation.name](call) or {}, request_id)
    except ApiError as error:
        written = write_error(service.model, operation, error, request_id)
    return HttpAnswer(written.status, {**written.headers, "x-amzn-RequestId": request_id}, written.body)


def _not_implemented(service: Service, name: str) -> ApiError:
    text = (
        f"{service.name}:{name} is not implemented in the local AWS. It has: {', '.join(sorted(service.operations))}."
    )
    return ApiError("NotImplementedException", text, 501)
