"""A server from its settings to its end: uvicorn, limits on connections, and a stop that finishes what was begun."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gsvexport.errors import EnvironmentProblem
from gsvexport.serve.app import Service
from gsvexport.serve.far import FarDesk
from gsvexport.serve.faults import Fault
from gsvexport.serve.gather import Gatherer
from gsvexport.serve.guard import Message, Receive, Send, refuse
from gsvexport.serve.logs import Handler, Log
from gsvexport.serve.memory import resident
from gsvexport.serve.settings import Settings

_HANG_UP = 1  # SIGHUP, which Python under Windows has no name for
_BACKLOG = 2048
_FILES = 256  # open ones beside connections: voices, libraries, the log
_SEND_BUFFER = 1 << 16  # bytes in the kernel for each connection: what a caller does not take must not pile up there


def serve(
    settings: Settings,
    gatherer: Gatherer,
    log: Log,
    listening: Callable[[str, int], None],
    desk: FarDesk | None = None,
) -> None:
    """Answer until SIGTERM or SIGINT; SIGHUP looks for new voices at once.

    `listening` is told host and port once the server answers. With a `desk` the voices are open elsewhere.

    Raises: as `Gatherer.look`, and
        EnvironmentProblem: the address cannot be had.
        ArtifactError, BackendError: a pinned voice cannot be opened.
    """
    asyncio.run(_serve(settings, gatherer, log, listening, desk))


async def _serve(
    settings: Settings,
    gatherer: Gatherer,
    log: Log,
    listening: Callable[[str, int], None],
    desk: FarDesk | None,
) -> None:
    resident()  # where memory cannot be measured, that is told before anything is begun
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (int(signal.SIGTERM), int(signal.SIGINT)):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with running(settings, gatherer, log, desk=desk) as (service, host, port):
            loop.add_signal_handler(_HANG_UP, service.watch.now)
            listening(host, port)
            log("listening", host=host, port=port, voices=len(service.catalogue.offers))
            await stopping.wait()
    finally:
        for number in (int(signal.SIGTERM), int(signal.SIGINT), _HANG_UP):
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, gatherer: Gatherer, log: Log, **pool: Any
) -> AsyncIterator[tuple[Service, str, int]]:
    """A server that answers inside of the block: with its host and port. At the end it finishes what was begun.

    Raises: as `serve`.
    """
    with contextlib.closing(_socket(settings)) as bound:
        service = Service(settings, gatherer, log, **pool)
        for name in ("uvicorn", "uvicorn.error", "websockets"):
            logging.getLogger(name).handlers = [Handler(log)]
            logging.getLogger(name).propagate = False
        server = _Server(_config(settings, service))
        try:
            await service.start()
            watching = asyncio.ensure_future(service.watch.run())
            answering = asyncio.ensure_future(server.serve(sockets=[bound]))
            try:
                while not server.started and not answering.done():
                    await asyncio.sleep(0.005)
                yield service, *bound.getsockname()[:2]
            finally:
                watching.cancel()
                log("stopping", active=service.guard.active)
                await service.stop()
                log("stopped", active=service.guard.active)
                server.should_exit = True
                await asyncio.gather(answering, watching, return_exceptions=True)
        finally:
            await service.desk.close()


def _config(settings: Settings, service: Service) -> uvicorn.Config:
    class Connection(PatientProtocol):
        idle, most = settings.idle, _room(settings.connections, service.log)
        admitted: ClassVar[set[PatientProtocol]] = set()

    return uvicorn.Config(
        service.guard,
        http=Connection,
        ws="websockets-sansio",
        ws_max_size=settings.largest_body,
        ws_max_queue=4,
        ws_ping_interval=settings.idle,
        ws_ping_timeout=settings.idle,
        ws_per_message_deflate=False,  # a small message must not become a large one
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=max(1, round(settings.idle)),
        timeout_graceful_shutdown=1,  # what is being spoken was waited for already
        h11_max_incomplete_event_size=settings.largest_headers,
    )


class _Server(uvicorn.Server):
    """Signals are ours: uvicorn's own handlers would cut WebSockets off, and end the process by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them as they are."""
        yield


class PatientProtocol(H11Protocol):
    """A connection that may be slow, but not for ever: every `idle` seconds somebody looks whether it got on.

    uvicorn itself ends connections that are silent after an answer, not those that never ask, ask one byte at a time,
    or do not take what they asked for.

    Those that came first go on being served: of more than `most`, the new ones are answered 503, and twice as many are
    not even heard. (uvicorn's own limit refuses everybody, old and new, while too many are open.)
    """

    idle, most = 15.0, 2000
    admitted: ClassVar[set[PatientProtocol]] = set()  # of one server
    _timer: asyncio.TimerHandle | None = None
    _seen: tuple[int, int] | None = None  # requests, and bytes that were not taken, at the last look

    def connection_made(self, transport: Any) -> None:
        """As uvicorn's."""
        super().connection_made(transport)
        self._requests = 0
        if len(self.admitted) < self.most:
            self.admitted.add(self)
        elif len(self.connections) <= 2 * self.most:
            self.app = _full
        else:
            transport.abort()
            return
        self._timer = self.loop.call_later(self.idle, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        if self._timer is not None:
            self._timer.cancel()
        self.admitted.discard(self)
        super().connection_lost(exc)

    def _should_upgrade(self) -> bool:
        """As uvicorn's; who is not admitted gets no WebSocket either."""
        return self.app is not _full and super()._should_upgrade()

    def on_response_complete(self) -> None:
        """As uvicorn's."""
        self._requests += 1
        super().on_response_complete()

    def _look(self) -> None:
        upgraded = self.transport.get_protocol() is not self  # a WebSocket by now, whose silence ends by its pings
        answering = upgraded or (self.cycle is not None and not self.cycle.response_complete)
        left = self.transport.get_write_buffer_size()
        stuck = left > 0 and self._seen == (self._requests, left)
        asks_slowly = not answering and left == 0 and self._seen == (self._requests, 0)
        if stuck or self.transport.is_closing():
            self.transport.abort()
            return
        if asks_slowly:
            self.transport.close()
            return
        self._seen = (self._requests, left) if left or not answering else None
        self._timer = self.loop.call_later(self.idle, self._look)


async def _full(scope: Message, receive: Receive, send: Send) -> None:
    headers = (("retry-after", "5"), ("connection", "close"))
    await refuse(scope, send, Fault(503, "too many connections are open", "too_many_connections", headers=headers))


def _room(connections: int, log: Log) -> int:
    """How many connections can be admitted: `connections`, or fewer where the system has not as many open files."""
    if sys.platform == "win32":
        return connections
    import resource  # Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + _FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    room = max(1, (soft - _FILES) // 2)
    log("fewer_connections", wanted=connections, possible=room, open_files=soft)
    return room


def _socket(settings: Settings) -> socket.socket:
    """The address, held before anything is opened."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # its connections inherit it
            made.bind(address)
        except OSError:
            made.close()
            raise
    except OSError as error:
        what = f"{settings.host} port {settings.port} cannot be served: {error.strerror or error}"
        raise EnvironmentProblem(what, fix="choose another --host or --port") from error
    return made
