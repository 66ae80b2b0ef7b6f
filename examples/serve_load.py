"""Callers of a speech server, all at once: how long each waited for its first sound and for the whole.

python examples/serve_load.py http://localhost:8000 alice "Good morning." --callers 8 [--stream]
"""

from __future__ import annotations

import argparse
import http.client
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit


def call(host: str, value: dict[str, object]) -> tuple[int, float, float]:
    """Status of one request, seconds to its first byte of sound, and to its last."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(host, timeout=600)
    connection.request("POST", "/v1/audio/speech", json.dumps(value), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read(48)  # a WAV's header, and two samples
    first = time.perf_counter() - began
    answer.read()
    connection.close()
    return answer.status, first, time.perf_counter() - began


def main() -> None:
    """Call, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("voice")
    parser.add_argument("text")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--stream", action="store_true")
    given = parser.parse_args()
    value = {"model": "gsvexport", "voice": given.voice, "input": given.text, "stream": given.stream}
    wishes = [{**value, "response_format": "wav", "seed": seed} for seed in range(given.callers)]
    began = time.perf_counter()
    with ThreadPoolExecutor(given.callers) as callers:
        found = list(callers.map(lambda wish: call(urlsplit(given.url).netloc, wish), wishes))
    seconds = time.perf_counter() - began
    print(f"{given.callers} callers in {seconds:.2f} s; answers by status: {dict(Counter(one[0] for one in found))}")
    for name, place in (("first sound", 1), ("all", 2)):
        times = sorted(one[place] for one in found if one[0] == 200)
        if times:
            p50, p95 = (times[min(len(times) - 1, int(share * len(times)))] for share in (0.5, 0.95))
            print(f"{name}: p50 {p50:.2f} s, p95 {p95:.2f} s")


if __name__ == "__main__":
    main()
