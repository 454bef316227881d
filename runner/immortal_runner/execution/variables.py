"""The environment variables that a function finds, as Lambda sets them."""

from collections.abc import Mapping
from dataclasses import dataclass

from immortal_runner.code.function import Function
from immortal_runner.runtimes.table import find_runtime

RESERVED = frozenset(
    {
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECRET_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
"""Names that a customer can't set.

Source: Lambda developer guide, "Defined runtime environment variables".
"""

_DEFAULTS = {"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR", "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000"}
_WITH_OLD_KEY_NAMES = ("java8.al2", "java11")
_OLD_KEY_NAMES = {"AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY": "AWS_SECRET_KEY"}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK = "127.0.0.1,localhost"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the function finds things, as it sees them itself."""

    task: str = "/var/task"
    opt: str = "/opt"
    runtime: str = "/var/runtime"
    lang: str = "/var/lang"


def function_variables(
    function: Function,
    *,
    paths: Paths,
    runtime_api: str,
    log_stream: str,
    credentials: Mapping[str, str],
    extra: Mapping[str, str],
) -> dict[str, str]:
    """Everything that the platform puts into a function's environment; its runtime's bootstrap adds its own.

    Args:
        runtime_api: ``host:port``.
        credentials: The variables that carry its credentials or point to them.
        extra: What the surroundings need, for example ``AWS_ENDPOINT_URL`` on a local AWS; the customer's own win.

    Source: environments recorded from 25 runtimes on AWS; Lambda developer guide, "Defined runtime environment
    variables".
    """
    own = {name: value for name, value in function.variables.items() if name not in RESERVED and name[:1] != "_"}
    fixed = _fixed(function, paths=paths, runtime_api=runtime_api, log_stream=log_stream)
    of_zip = {} if function.image else _defaults_of_zip(function, paths)
    return _reachable({**_DEFAULTS, **of_zip, **extra, **own, **fixed, **_name_twice(function, credentials)})


def _defaults_of_zip(function: Function, paths: Paths) -> dict[str, str]:
    """What a customer may replace; a container image brings its own."""
    lang = find_runtime(function.runtime).family != "provided"  # those have no interpreter there
    libraries = (
        *([f"{paths.lang}/lib"] if lang else []),
        "/lib64",
        "/usr/lib64",
        paths.runtime,
        f"{paths.runtime}/lib",
        paths.task,
        f"{paths.task}/lib",
        f"{paths.opt}/lib",
    )
    programs = (*([f"{paths.lang}/bin"] if lang else []), "/usr/local/bin", "/usr/bin/", "/bin", f"{paths.opt}/bin")
    return {
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PATH": ":".join(programs),
        "TZ": ":UTC",
    }


def _fixed(function: Function, *, paths: Paths, runtime_api: str, log_stream: str) -> dict[str, str]:
    """What the platform alone sets."""
    json_logs = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": function.application_log_level or "INFO"}
    return {
        "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
        "_AWS_XRAY_DAEMON_PORT": "2000",
        "AWS_DEFAULT_REGION": function.region,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_REGION": function.region,
        "LAMBDA_RUNTIME_DIR": paths.runtime,
        "LAMBDA_TASK_ROOT": paths.task,
        **(json_logs if function.log_format == "JSON" else {}),
        **_fixed_by_kind(function),
    }


def _fixed_by_kind(function: Function) -> dict[str, str]:
    """What differs between images and zips, and between the zips of different runtimes."""
    if function.image:
        return {"AWS_EXECUTION_ENV": "AWS_Lambda_Image"}
    named = find_runtime(function.runtime).execution_env
    return {"_HANDLER": function.handler, **({"AWS_EXECUTION_ENV": named} if named else {})}


def _name_twice(function: Function, credentials: Mapping[str, str]) -> dict[str, str]:
    """The credentials; the old Java runtimes give a key by the names of the first SDK as well."""
    second = {}
    if function.runtime in _WITH_OLD_KEY_NAMES:
        second = {_OLD_KEY_NAMES[name]: value for name, value in credentials.items() if name in _OLD_KEY_NAMES}
    return {**credentials, **second}


def _reachable(variables: dict[str, str]) -> dict[str, str]:
    """With a proxy in the customer's environment, keep the Runtime API out of it: curl would ask the proxy for it."""
    if not any(name.lower() in _PROXIES for name in variables):
        return variables
    for name in ("no_proxy", "NO_PROXY"):
        variables[name] = ",".join(filter(None, (variables.get(name), _LOOPBACK)))
    return variables
