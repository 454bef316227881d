"""Images: what stands in for Amazon ECR is the local Docker engine, whose images functions can be made of."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError, ImageNotFound
from docker.types import Mount

from immortal_dispatcher.images import SHARED, USER, FunctionImage, program, read_config, write_wrapper
from immortal_lambda.errors import ImmortalError
from immortal_local.links import Links
from immortal_local.parts import Ground
from immortal_local.tasks.docker import OWNER_LABEL, connect, find_image
from immortal_local.wire import ApiError, Call, Service
from immortal_runner.code.function import Function
from immortal_runner.neighbours.neighbour import ContainerEnd, Neighbour

if TYPE_CHECKING:
    from docker.models.containers import Container

__all__ = ["ImageContainer", "Images", "resolve_uri"]

_DIGEST = "sha256:"
_ARRIVAL_S = 30.0
_CONFIG_KIND = "application/vnd.docker.container.image.v1+json"
_MANIFEST_KIND = "application/vnd.docker.distribution.manifest.v2+json"


def resolve_uri(uri: str, digest: str, *, account: str, region: str) -> str:
    """Write where Lambda would have resolved an image to: in Amazon ECR, by its digest.

    Args:
        uri: As the function names it; an image that is in no registry is taken for one of this account's.
        digest: Without ``sha256:``; it is the image's id.
    """
    name = uri.partition("@")[0]
    repository = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
    if ".dkr.ecr." not in repository:
        repository = f"{account}.dkr.ecr.{region}.amazonaws.com/{repository.rpartition('/')[2]}"
    return f"{repository}@{_DIGEST}{digest}"


class Images:
    """The images of the local Docker engine.

    Args:
        available: Whether there is one: with the engine ``process`` functions can be made of images and not run.
    """

    def __init__(self, ground: Ground, links: Links, *, available: bool) -> None:
        self._ground = ground
        self._links = links
        self._available = available

    def services(self) -> Sequence[Service]:
        """The two calls by which the dispatcher learns how an image is started; the rest of ECR is the emulator's."""
        if not self._available:
            return []
        operations = {"BatchGetImage": self.batch_get_image, "GetDownloadUrlForLayer": self.get_download_url}
        return [Service("ecr", operations)]

    def start(self) -> None:
        """Nothing moves here."""

    def stop(self) -> None:
        """Let go of the Docker engine, if it was asked."""
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _client(self) -> docker.DockerClient:
        return connect()

    def digest_of(self, uri: str) -> str:
        """Find an image; give what Lambda shows as its ``CodeSha256``, which is empty where no engine is asked.

        Raises:
            ApiError: The engine doesn't have it.
        """
        if not self._available:
            return uri.rpartition(_DIGEST)[2] if _DIGEST in uri else ""
        try:
            return str(find_image(self._client, uri).id).removeprefix(_DIGEST)
        except ImageNotFound as error:
            message = f"Source image {uri} does not exist. Provide a valid source image."
            raise ApiError("InvalidParameterValueException", message) from error

    def run(self, function: Function, folder: Path, tmp: Path) -> "ImageContainer":
        """Start the container of a function, and wait until it is there.

        Args:
            folder: Empty; shared with it.
            tmp: What it sees as ``/tmp``.

        Raises:
            ApiError: It can't be run.
        """
        if not self._available or function.image is None:
            raise _refused(
                f"{function.name} is a container image, which needs a Docker engine. Next step: start the local AWS "
                "with --engine docker"
            )
        container = None
        neighbour = Neighbour(folder, look=lambda: _look(container), scratch=tmp)
        try:
            container = self._create(function, folder, tmp)
            container.start()
            neighbour.await_arrival(timeout_s=_ARRIVAL_S)
        except (APIError, ImmortalError) as error:
            ImageContainer(neighbour, container).close()
            said = error.explanation if isinstance(error, APIError) else str(error)
            raise _refused(f"the container of {function.name} can't be started: {said}") from error
        return ImageContainer(neighbour, container)

    def _create(self, function: Function, folder: Path, tmp: Path) -> "Container":
        assert function.image  # noqa: S101  # for the type checker: asked before
        asked = function.image
        image = find_image(self._client, asked.uri)
        data = _write_config(image.attrs)
        config = read_config(data, digest=_digest(data))
        own = FunctionImage(
            function.name, asked.uri, asked.entry_point or (), asked.command or (), asked.working_directory or ""
        )
        created: Container = self._client.containers.create(
            image,
            entrypoint=["/bin/sh", "-c", write_wrapper(config.variables), "immortal"],
            command=list(program(own, config)),
            working_dir=own.working_directory or config.working_directory or None,
            labels={OWNER_LABEL: str(os.getpid())},
            network_mode="host",  # its Runtime API is on this machine's loopback
            user=USER if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}",
            read_only=True,
            cap_drop=["ALL"],
            mem_limit=f"{function.memory_mb}m",
            memswap_limit=f"{function.memory_mb}m",
            mounts=[Mount(SHARED, str(folder), type="bind"), Mount("/tmp", str(tmp), type="bind")],  # noqa: S108  # its own
        )
        return created

    # ECR

    def batch_get_image(self, call: Call) -> dict[str, Any]:
        """BatchGetImage, by digest: a manifest that names the image's configuration and no layers."""
        answer: dict[str, Any] = {"images": [], "failures": []}
        for asked in call.request["imageIds"]:
            try:
                data = _write_config(find_image(self._client, asked.get("imageDigest", "")).attrs)
            except (ImageNotFound, ValueError):
                answer["failures"].append({"imageId": asked, "failureCode": "ImageNotFound"})
                continue
            config = {"mediaType": _CONFIG_KIND, "size": len(data), "digest": _digest(data)}
            manifest = {"schemaVersion": 2, "mediaType": _MANIFEST_KIND, "config": config, "layers": []}
            shown = {"imageId": asked, "imageManifest": json.dumps(manifest), "imageManifestMediaType": _MANIFEST_KIND}
            answer["images"].append({**shown, "repositoryName": call.request["repositoryName"]})
            self._file(config["digest"]).write_bytes(data)
        return answer

    def get_download_url(self, call: Call) -> dict[str, Any]:
        """GetDownloadUrlForLayer, of a configuration that a manifest has named."""
        file = self._file(call.request["layerDigest"])
        if not file.is_file():
            raise ApiError("LayersNotFoundException", f"The layer {file.name} is not there.")
        link = self._links.open(file, host=call.headers["host"])
        return {"downloadUrl": link, "layerDigest": call.request["layerDigest"]}

    def _file(self, digest: object) -> Path:
        return self._ground.scratch / f"image-config-{hashlib.sha256(str(digest).encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class ImageContainer:
    """The container of one function's execution environment."""

    neighbour: Neighbour
    container: "Container | None"

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.neighbour.gone

    def close(self) -> None:
        """End it and leave nothing of it behind. Twice is harmless."""
        self.neighbour.close()
        if self.container is not None:
            _remove([self.container])


def _look(container: "Container | None") -> ContainerEnd | None:
    if container is None:
        return None
    try:
        container.reload()
    except APIError:
        return ContainerEnd(None, "removed")
    state = container.attrs["State"]
    if state["Status"] not in {"exited", "dead"}:
        return None
    reason = "OutOfMemoryError" if state.get("OOMKilled") else state.get("Error", "")
    return ContainerEnd(state["ExitCode"], reason)


def _remove(containers: "Iterable[Container]") -> None:
    for container in containers:
        try:
            container.remove(force=True, v=True)
        except APIError:  # somebody else has
            continue


def _write_config(attributes: Any) -> bytes:
    """Write an image's configuration as a registry keeps it, from what the engine tells of the image."""
    said = attributes["Config"]
    config = {name: said.get(name) for name in ("Entrypoint", "Cmd", "Env", "WorkingDir")}
    written = {"architecture": attributes["Architecture"], "os": attributes["Os"], "config": config}
    return json.dumps(written, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return f"{_DIGEST}{hashlib.sha256(data).hexdigest()}"


def _refused(reason: str) -> ApiError:
    return ApiError("InvalidRuntimeException", reason, 502)
