"""Installs what this machine needs to run functions of a runtime without its base image."""

from immortal_runner.runtimes.node import client_version
from immortal_runner.runtimes.node_client import build_client
from immortal_runner.runtimes.table import RuntimeRefused, find_runtime


def install_runtime(name: str) -> str:
    """Install a runtime's client, unless it is there.

    Returns:
        What is there now, in words.

    Raises:
        RuntimeRefused: There is no such runtime, or nothing but its base image runs it.
        ClientNotBuilt: Something that the client is built with is missing, or the build failed.
    """
    runtime = find_runtime(name)
    match runtime.family:
        case "nodejs":
            return f"{name} runs by the client in {build_client(client_version(runtime))}"
        case "python":
            return f"{name} runs by the client that immortal-lambda[local] brings"
        case "provided":
            return f"{name} needs nothing: its functions bring their own program"
        case _:
            raise RuntimeRefused(
                f"AWS gives the runtime of {name} away in a base image alone. Next step: "
                f"immortal image build --runtime {name}, and let tasks run in that image "
                "(on a local AWS: immortal local up --engine docker)"
            )
