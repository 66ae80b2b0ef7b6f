"""How fast a voice is in Chromium, beside Python on native ONNX Runtime, in turn in one run, on a quiet machine.

    export PYTHONPATH=tests:tests/backends/web
    python tests/backends/web/figures.py BROWSER.gsv NATIVE.gsv [--runs 5] [--threads 1 2]

Of every run: seconds to the first sound, real-time factor, and seconds of processor time for one second of sound;
median and range. What a page fetches and what opening costs is not in it: each speaks once before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner
from report import browser as chromium
from test_web_page import Server, at

from gsvexport.cli.unpack import unpack
from gsvexport.runtime.pipeline import LoadedVoice, load

TEXT = "The quick brown fox jumps over the lazy dog."
WINDOW, SEED = 0.4, 1


class Run(NamedTuple):
    first: float
    rtf: float
    processor: float


def tree(pid: int) -> float:
    """Processor seconds of a process and all that it started and that still run."""
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        number = int(path.parent.name)
        parents[number], used[number] = int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def below(number: int) -> Iterator[int]:
        while number:
            yield number
            number = parents.get(number, 0)

    return sum(seconds for number, seconds in used.items() if pid in below(number))


def native(voice: LoadedVoice) -> Run:
    began, processor, first, samples = time.perf_counter(), time.process_time(), 0.0, 0
    for piece in voice.stream(text=TEXT, seed=SEED, window=WINDOW):
        first = first or time.perf_counter() - began
        samples += piece.samples.size
    length = samples / voice.model.rate
    return Run(first, (time.perf_counter() - began) / length, (time.process_time() - processor) / length)


def page(one: chromium.Page) -> Run:
    before = tree(os.getpid()) - sum(os.times()[:2])
    one.value(f"{at('speak')}.click()")
    one.wait(f"!{at('speak')}.disabled", 600)
    assert one.value(f"{at('problem')}.textContent") == ""
    processor = tree(os.getpid()) - sum(os.times()[:2]) - before
    length = one.value("page.said.samples / page.opened.rate")
    return Run(
        one.value("page.said.first") / 1000, one.value("page.said.milliseconds") / 1000 / length, processor / length
    )


def shown(name: str, runs: list[Run]) -> str:
    cells = [f"{statistics.median(one):.3g} ({min(one):.3g} to {max(one):.3g})" for one in zip(*runs, strict=True)]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("browser", type=Path)
    asked.add_argument("native", type=Path)
    asked.add_argument("--runs", type=int, default=5)
    asked.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as work:
        site = Path(work) / "site"
        CliRunner().invoke(unpack, [str(given.browser), "--web", "-o", str(site)], standalone_mode=False)
        server = Server(site)
        print(f"{given.runs} runs, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")  # noqa: T201
        print("| | first sound, s | real-time factor | processor s a second |\n|---|---|---|---|")  # noqa: T201
        for threads in given.threads:
            with chromium.opened() as one, load(given.native, threads=threads) as voice:
                cores = f"Object.defineProperty(navigator, 'hardwareConcurrency', {{get: () => {threads + 1}}})"
                one._call("Page.addScriptToEvaluateOnNewDocument", source=cores)
                one.open(server.url, 1200, 900)
                one.wait("globalThis.page?.ready")
                one.value(f"{at('text')}.value = {TEXT!r}; {at('seed')}.value = '{SEED}'")
                page(one), native(voice)
                pairs = [(page(one), native(voice)) for _ in range(given.runs)]
            there, here = (list(runs) for runs in zip(*pairs, strict=True))
            print(shown(f"Chromium, threads: {threads}", there))  # noqa: T201
            print(shown(f"{given.native.name}, threads: {threads}", here))  # noqa: T201
        server.shutdown()


if __name__ == "__main__":
    main()
