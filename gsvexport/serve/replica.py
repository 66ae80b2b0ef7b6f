"""What runs in the processes of Ray Serve; `cluster` says how many of them there are.

These classes are found by their names in each process, so they stay undecorated here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray import exceptions, serve
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from gsvexport.serve.app import Service
from gsvexport.serve.far import FarDesk
from gsvexport.serve.faults import Fault, fault_of
from gsvexport.serve.gather import Gatherer
from gsvexport.serve.guard import App, request_id
from gsvexport.serve.logs import Log
from gsvexport.serve.settings import Settings
from gsvexport.serve.speech import Wish

_VOICES = 64  # whose place Ray remembers, of each replica
_LOST = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    DeploymentUnavailableError,
)


class Speaker:
    """Voices in a pool within `memory`, as in a server of one process."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        log = Log()
        gatherer = Gatherer(settings, lambda what: log("gathering", what=what))
        self._service = Service(settings, gatherer, log)
        await self._service.start()
        self._watching = asyncio.ensure_future(self._service.watch.run())

    async def __del__(self) -> None:
        self._watching.cancel()
        await self._service.desk.close()

    @serve.multiplexed(max_num_models_per_replica=_VOICES)  # type: ignore[untyped-decorator,unused-ignore]
    async def _here(self, voice: str) -> str:
        """Tells Ray that the voice is here; what is open, the pool decides."""
        return voice

    async def speak(self, key: str, request: str, values: Mapping[str, Any]) -> AsyncIterator[tuple[Any, ...]]:
        """The messages that `far` names, for the voice that Ray has multiplexed. `key` is the artifact that the front
        knows under that name."""
        request_id.set(request)
        try:
            name = await self._here(serve.get_multiplexed_model_id())
            offer = self._service.catalogue.offers.get(name)
            if offer is None or offer.key != key:  # the front has looked later than this replica, or earlier
                await self._service.watch.look()
                offer = self._service.catalogue.offers.get(name)
            if offer is None:
                what = f"{name} is not served any more, or not yet on this machine"
                raise Fault(503, what, "voice_not_found", "voice", (("retry-after", "5"),))
            async with self._service.desk.speech(Wish(offer=offer, **values)) as speech:
                yield "rate", speech.rate
                while (piece := await speech.next()) is not None:
                    yield "piece", piece.samples, piece.rate, piece.notes
        except Exception as error:
            fault = fault_of(error, request)
            if fault.status == 500:
                self._service.log("failed", request=request, error=type(error).__name__)
            yield "fault", fault.status, fault.message, fault.code, fault.param, fault.headers


def desk_of(speakers: Any) -> FarDesk:
    """A desk in this process whose voices are spoken by the replicas behind a handle of Ray Serve."""

    def call(wish: Wish) -> Any:
        values = {one: getattr(wish, one) for one in ("text", "seed", "speed", "language", "pieces")}
        chosen = speakers.options(stream=True, method_name="speak", multiplexed_model_id=wish.offer.id)
        return chosen.remote(wish.offer.key, request_id.get(), values)

    return FarDesk(call, (BackPressureError,), _LOST)


class Front:
    """The application behind Ray's own proxies: keys, limits, the page, what there is. It opens no voice."""

    async def __init__(self, settings: Settings, speakers: Any) -> None:  # type: ignore[misc]  # as above
        log = Log()
        gatherer = Gatherer(settings, lambda what: log("gathering", what=what))
        self._service = Service(settings, gatherer, log, desk_of(speakers))
        await self._service.start()
        self._watching = asyncio.ensure_future(self._service.watch.run())

    def __serve_build_asgi_app__(self) -> App:
        return self._service.guard
