"""How the runner meets the function's own container in its task."""

from immortal_lambda.errors import ImmortalError
from immortal_runner.code.function import Function, FunctionRefused
from immortal_runner.metadata import read_container_end
from immortal_runner.neighbours.neighbour import Neighbour
from immortal_runner.settings import Settings
from immortal_runner.stop import StopSignal


class ImageChanged(ImmortalError):
    """The function got another image after the task had been ordered; the next task has it."""

    retryable = True


def meet_neighbour(function: Function, settings: Settings, stop: StopSignal) -> Neighbour:
    """Meet the container of a function that is a container image; the task must have been started with it.

    Raises:
        FunctionRefused: It wasn't.
        ContainerNotStarted: That container can't be started.
        ImageChanged: It has the image that the function had before.
        ServiceUnavailable: It isn't there in time, or the task is being stopped.
    """
    beside = settings.neighbour
    if beside is None or function.image is None:
        raise FunctionRefused(
            f"{function.name} is a container image, and this task was started without that image. Next step: "
            "immortal deploy, so that the dispatcher is as new as the runner, and immortal runs redrive this run"
        )
    if beside.image != function.image.uri:
        raise ImageChanged(f"{function.name} has become {function.image.uri}, and this task has {beside.image}")
    neighbour = Neighbour(
        beside.shared_dir, look=lambda: read_container_end(settings.metadata_uri, beside.name), scratch=beside.tmp_dir
    )
    try:
        neighbour.await_arrival(lambda: stop.asked)
    except ImmortalError:
        neighbour.close()
        raise
    return neighbour
