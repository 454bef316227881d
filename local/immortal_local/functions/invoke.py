"""Invoke: one call, answered with a result, taken as an event, or only checked."""

import base64
import time
from typing import Any

from immortal_local.functions.asynchronous import AsynchronousEvents, new_trace_header
from immortal_local.functions.control import refer
from immortal_local.functions.invoking import Invoker
from immortal_local.functions.payloads import check_payload, read_client_context
from immortal_local.functions.references import Reference
from immortal_local.functions.store import Store
from immortal_local.wire import Call, Operation

__all__ = ["Invoke"]


class Invoke:
    """The operation Invoke."""

    def __init__(self, store: Store, invoker: Invoker, events: AsynchronousEvents) -> None:
        self._store = store
        self._invoker = invoker
        self._events = events

    def operations(self) -> dict[str, Operation]:
        """What is answered here, by operation name."""
        return {"Invoke": self.invoke}

    def invoke(self, call: Call) -> dict[str, Any]:
        """Invoke. The call's request id is the invocation's, retries included."""
        reference = refer(call)
        target = self._store.target(call.region, reference)
        kind = call.request.get("InvocationType", "RequestResponse")
        payload = check_payload(call.request.get("Payload", b""), asynchronous=kind == "Event")
        if kind == "DryRun":
            return {"StatusCode": 204}
        trace_header = call.headers.get("x-amzn-trace-id")
        if kind == "Event":
            return self._take(call, reference, payload, trace_header)
        answer = self._invoker.invoke(
            target,
            payload,
            request_id=call.request_id,
            trace_header=trace_header or new_trace_header(time.time()),
            client_context=read_client_context(call.request.get("ClientContext")),
        )
        return {
            "StatusCode": 200,
            "ExecutedVersion": answer.version,
            "FunctionError": "Unhandled" if answer.failed else None,
            "LogResult": base64.b64encode(answer.log_tail).decode() if call.request.get("LogType") == "Tail" else None,
            "Payload": answer.payload,
        }

    def _take(self, call: Call, reference: Reference, payload: bytes, trace_header: str | None) -> dict[str, Any]:
        self._events.take(call.region, reference, payload, request_id=call.request_id, trace_header=trace_header)
        return {"StatusCode": 202, "Payload": b""}
