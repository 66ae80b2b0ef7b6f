"""What a server does under load: `python -m gsvexport.serve.bench VOICES… [--connections N] [--callers 1 4 8] …`, or
what one does that runs already: `python -m gsvexport.serve.bench http://localhost:8000 --callers 8`.

Servers are processes of their own on loopback, the callers are this process. Every answer is compared with what the
same request gave alone, byte by byte. Times are of one run on one machine: compare them with each other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import mmap
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gsvexport.serve.settings import PREFIX

_SEEDS = 8
_LONGEST = 600.0  # s that an answer may take


@dataclass(frozen=True)
class Answer:
    """What came of a request: `first` and `total` are seconds, `body` SHA-256 of the sound."""

    status: int
    first: float
    total: float
    body: str


class Reached:
    """A server at an address. The key is that of GSVEXPORT_SERVE_API_KEY, if it is set."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise SystemExit(f"no server can be at {url!r}")
        self.host, self.port = parts.hostname, parts.port or 80
        key = os.environ.get(f"{PREFIX}API_KEY")
        self._head = f"Host: {parts.netloc}\r\nConnection: close\r\n"
        self._head += f"Authorization: Bearer {key}\r\n" if key else ""

    async def say(self, voice: str, text: str, seed: int = 0, *, stream: bool = False) -> Answer:
        """One request, on a connection of its own."""
        value = {"model": "gsvexport", "voice": voice, "input": text, "seed": seed}
        value |= {"response_format": "pcm", "stream": stream}
        return await asyncio.wait_for(self._ask("POST", "/v1/audio/speech", json.dumps(value).encode()), _LONGEST)

    async def get(self, path: str) -> Any:
        """What is at a path, as JSON or text."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())
        data = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        return json.loads(data) if data[:1] == b"{" else data.decode()

    async def _ask(self, method: str, path: str, body: bytes) -> Answer:
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        found, first = hashlib.sha256(), 0.0
        async for piece in _body(reader, headers):
            first = first or time.perf_counter() - began
            found.update(piece)
        writer.close()
        return Answer(int(headers.split()[1]), first, time.perf_counter() - began, found.hexdigest())


class Server(Reached):
    """A server in a process of its own."""

    def __init__(self, voices: Sequence[str], *options: str) -> None:
        line = [sys.executable, "-m", "gsvexport", "serve", *voices, "--port", "0", "--watch", "0", *options]
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115  # closed with the server
        self._process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=self._log, encoding="utf-8")
        assert self._process.stdout is not None
        super().__init__(self._process.stdout.readline().strip())

    @property
    def resident(self) -> float:
        """Its resident memory in MB."""
        return int(self._read("statm").split()[1]) * mmap.PAGESIZE / 1e6

    @property
    def processor(self) -> float:
        """The processor time that it took, in s."""
        fields = self._read("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # type: ignore[attr-defined,unused-ignore]

    def _read(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text(encoding="ascii")

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it has logged by that name."""
        with open(self._log.name, encoding="utf-8") as file:
            return [one for one in map(json.loads, file) if one["event"] == name]

    def close(self) -> int:
        """End it as systemd would; its exit code."""
        self._process.terminate()
        code = self._process.wait(60)
        self._log.close()
        return code


async def _body(reader: asyncio.StreamReader, headers: str) -> Any:
    """The pieces of an answer's body.

    Raises:
        asyncio.IncompleteReadError: it ends before its end.
    """
    if "transfer-encoding: chunked" in headers:
        while size := int(await reader.readline(), 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        return
    length = int(headers.partition("content-length:")[2].split()[0])
    while length:
        piece = await reader.read(min(length, 1 << 16))
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        length -= len(piece)
        yield piece


@contextlib.contextmanager
def running(voices: Sequence[str], *options: str) -> Iterator[Server]:
    """A server; its exit code has to be 0."""
    server = Server(voices, *options)
    try:
        yield server
    finally:
        if code := server.close():
            raise SystemExit(f"the server ended with {code}")


def told(name: str, answers: Sequence[Answer | BaseException], **more: object) -> None:
    """A line of JSON of what came of many requests."""
    good = [one for one in answers if isinstance(one, Answer)]
    spoken = [one for one in good if one.status == 200]
    line: dict[str, Any] = {"what": name, "requests": len(answers), "lost": len(answers) - len(good)}
    line |= {"statuses": dict(sorted(Counter(one.status for one in good).items()))}
    for key in ("first", "total"):
        times = sorted(getattr(one, key) for one in spoken)
        if times:
            line |= {f"{key}_p{part}": round(times[part * (len(times) - 1) // 100], 3) for part in (50, 95)}
    _write({**line, **more})


def _write(line: dict[str, Any]) -> None:
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}
    sys.stdout.write(f"{json.dumps(rounded)}\n")
    sys.stdout.flush()


async def together(work: Sequence[Awaitable[Answer]]) -> list[Answer | BaseException]:
    """All at once; what failed as its error."""
    return await asyncio.gather(*work, return_exceptions=True)


async def alone(server: Server, voice: str, text: str) -> dict[int, str]:
    """What each seed sounds like when nobody else is being spoken to."""
    return {seed: (await server.say(voice, text, seed)).body for seed in range(_SEEDS)}


def wrong(answers: Sequence[Answer | BaseException], expected: dict[int, str]) -> int:
    """How many of the answers, whose seeds come in turn, do not sound as they do alone."""
    return sum(
        isinstance(one, Answer) and one.status == 200 and one.body != expected[number % _SEEDS]
        for number, one in enumerate(answers)
    )


async def many_connections(voices: Sequence[str], options: Sequence[str], count: int, text: str) -> None:
    """So many callers who all ask at once, twice: memory may grow by the first time's threads and buffers alone."""
    with running(voices, *options) as server:
        voice = (await server.get("/voices"))["voices"][0]["id"]
        expected = await alone(server, voice, text)
        for number in (1, 2):
            before, used = server.resident, server.processor
            answers = await together([server.say(voice, text, seed % _SEEDS) for seed in range(count)])
            told(
                f"{count} connections, time {number}",
                answers,
                wrong=wrong(answers, expected),
                memory_before=before,
                memory_after=server.resident,
                processor=server.processor - used,
            )


async def batched(
    voices: Sequence[str], options: Sequence[str], callers: Sequence[int], text: str, rounds: int
) -> None:
    """Throughput with shared steps and without, in turn."""
    with running(voices, *options, "--rows", "8") as shared, running(voices, *options, "--rows", "1") as single:
        voice = (await shared.get("/voices"))["voices"][0]["id"]
        expected = await alone(shared, voice, text)
        assert await alone(single, voice, text) == expected
        for count in callers:
            taken: dict[str, list[tuple[float, float]]] = {"rows 8": [], "rows 1": []}
            for _ in range(rounds):
                for name, server in (("rows 8", shared), ("rows 1", single)):
                    began, used = time.perf_counter(), server.processor
                    answers = await together([server.say(voice, text, seed) for seed in range(count)])
                    assert not wrong(answers, expected)
                    assert all(isinstance(one, Answer) and one.status == 200 for one in answers)
                    taken[name].append((time.perf_counter() - began, server.processor - used))
            least = {name: [min(one[place] for one in times) for place in (0, 1)] for name, times in taken.items()}
            wall, processor = (least["rows 8"][place] / least["rows 1"][place] for place in (0, 1))
            _write({"what": f"{count} callers, rows 8 beside 1", "wall": wall, "processor": processor, **least})


async def running_already(url: str, voice: str | None, callers: Sequence[int], text: str) -> None:
    """So many callers at once of a server that somebody runs."""
    server = Reached(url)
    chosen = voice or (await server.get("/voices"))["voices"][0]["id"]
    for count in callers:
        told(f"{count} callers", await together([server.say(chosen, text, seed, stream=True) for seed in range(count)]))


async def pooled(voices: Sequence[str], options: Sequence[str], memory: str, count: int, text: str) -> None:
    """Voices asked for at random under a budget of memory; after each was opened once."""
    with running(voices, *options, "--memory", memory) as server:
        names = [one["id"] for one in (await server.get("/voices"))["voices"]]
        started = server.resident
        chosen, peak = random.Random(1), 0.0
        expected = {name: await server.say(name, text) for name in names}
        first, false, most = len(server.events("opened")), 0, 0
        answers: list[Answer | BaseException] = []
        for _ in range(count):
            asked = [chosen.choice(names) for _ in range(2)]
            found = await together([server.say(name, text) for name in asked])
            false += sum(
                isinstance(one, Answer) and one.body != expected[name].body
                for name, one in zip(asked, found, strict=True)
            )
            answers += found
            peak = max(peak, server.resident - started)
            most = max(most, sum(one["open"] for one in (await server.get("/voices"))["voices"]))
        opened = server.events("opened")
        again = opened[first:]
        told(
            f"{len(names)} voices under {memory}",
            answers,
            wrong=false,
            open_at_most=most,
            loads=len(again),
            hits=len(answers) - len(again),
            **{
                f"load_{group}": _parts([one["seconds"] for one in again if one["voice"].startswith(group)])
                for group in dict.fromkeys(name.rstrip("0123456789") for name in names)
            },
            peak=peak,
            largest_voice=max(one.get("grown", 0) for one in opened) / 1e6,
        )


def _parts(values: Sequence[float]) -> list[float]:
    """How many, the median, and what 95 % do not exceed."""
    ordered = sorted(values)
    return [len(ordered), *(round(ordered[part * (len(ordered) - 1) // 100], 3) for part in (50, 95) if ordered)]


async def in_a_row(voices: Sequence[str], options: Sequence[str], count: int, text: str) -> None:
    """So many requests one after the other; memory from the hundredth on."""
    with running(voices, *options) as server:
        voice = (await server.get("/voices"))["voices"][0]["id"]
        expected = await alone(server, voice, text)
        answers: list[Answer | BaseException] = []
        memory = {}
        for number in range(count):
            answers.append(await server.say(voice, text, number % _SEEDS))
            if number in (min(99, count - 1), count // 2, count - 1):
                memory[number + 1] = round(server.resident, 1)
        told(f"{count} in a row", answers, wrong=wrong(answers, expected), memory=memory)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("voices", nargs="+", help="or the address of a server that runs: http://…, with --callers")
    parser.add_argument("--voice", help="of a server that runs; its first one where this is absent")
    parser.add_argument("--text", default="Good morning.")
    parser.add_argument("--connections", type=int, metavar="N")
    parser.add_argument("--callers", type=int, nargs="+", metavar="N")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory", metavar="SIZE", help="with the voices asked for at random, --requests times 2")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--in-a-row", type=int, metavar="N")
    parser.add_argument("--serve", default="", metavar="OPTIONS", help="of gsvexport serve, in one word")
    given = parser.parse_args()
    options = shlex.split(given.serve)
    if given.voices[0].startswith("http"):
        asyncio.run(running_already(given.voices[0], given.voice, given.callers or [8], given.text))
        return
    if given.connections:
        asyncio.run(many_connections(given.voices, options, given.connections, given.text))
    if given.callers:
        asyncio.run(batched(given.voices, options, given.callers, given.text, given.rounds))
    if given.memory:
        asyncio.run(pooled(given.voices, options, given.memory, given.requests, given.text))
    if given.in_a_row:
        asyncio.run(in_a_row(given.voices, options, given.in_a_row, given.text))


if __name__ == "__main__":
    main()
