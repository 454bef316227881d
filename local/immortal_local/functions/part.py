"""Lambda as a part of the local AWS: wires its operations, its pool and its queues together."""

from collections.abc import Sequence

from immortal_local.functions.aliases import Aliases
from immortal_local.functions.asynchronous import AsynchronousEvents
from immortal_local.functions.control import Control
from immortal_local.functions.invoke import Invoke
from immortal_local.functions.invoking import Invoker
from immortal_local.functions.layers import Layers
from immortal_local.functions.mappings import Mappings
from immortal_local.functions.polling import Pollers
from immortal_local.functions.pool import Pool
from immortal_local.functions.settings import Settings
from immortal_local.functions.store import Store
from immortal_local.functions.tags import Tags
from immortal_local.images import Images
from immortal_local.links import Links
from immortal_local.parts import Ground
from immortal_local.wire import Operation, Service

__all__ = ["Functions"]


class Functions:
    """Lambda: the control plane, and functions that really run."""

    def __init__(self, ground: Ground, links: Links, images: Images) -> None:
        self._ground = ground
        archives = ground.scratch / "archives"
        archives.mkdir(mode=0o700)
        store = Store(ground.account)
        self._pool = Pool(ground, store, ground.scratch, images)
        invoker = Invoker(self._pool)
        self._events = AsynchronousEvents(store, invoker, ground)
        self._pollers = Pollers(store, invoker, ground)
        mappings = Mappings(store, ground, self._pollers)
        self._operations: dict[str, Operation] = {
            **Control(
                store, ground, folder=archives, links=links, images=images, changed=self._pool.retire
            ).operations(),
            **Aliases(store).operations(),
            **Layers(store, ground, folder=archives, links=links).operations(),
            **Settings(store, ground).operations(),
            **Tags(store, mappings.find_tags).operations(),
            **mappings.operations(),
            **Invoke(store, invoker, self._events).operations(),
        }

    def services(self) -> Sequence[Service]:
        """Lambda, wholly: nothing of it falls through."""
        return [Service("lambda", self._operations, whole=True, constrained=True)]

    def start(self) -> None:
        """Begin to try events and to stop what is idle."""
        self._ground.workers.start("asynchronous-events", self._events.work)
        self._ground.workers.start("idle-environments", self._pool.reap)

    def stop(self) -> None:
        """Take nothing more, and end every function's process."""
        self._pollers.stop()
        self._events.close()
        self._pool.stop()
        self._events.stop()
