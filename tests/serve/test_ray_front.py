"""The application behind Ray Serve's own proxies, as KubeRay runs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import httpx
import pytest
from websockets.sync.client import connect

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [pytest.mark.thorough, pytest.mark.skipif(sys.platform != "linux", reason="the server runs under Linux")]

DEPLOY = """
import json, sys
import ray
from ray import serve
from gsvexport.serve.cluster import application

args, port = json.loads(sys.argv[1])
ray.init(num_cpus=2, include_dashboard=False)
serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
serve.run(application(args), route_prefix="/")
print("up", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""
KEY = "a key that nobody guesses"


def test_the_application_answers_behind_rays_proxies(shelf, server):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    own = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    own |= {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60", "GSVEXPORT_SERVE_API_KEY": KEY}
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | shelf[1] | own
    line = [sys.executable, "-c", DEPLOY, json.dumps([{"voices": [str(shelf[0])], "host": "0.0.0.0"}, port])]
    body = {"model": "gsvexport", "voice": "alice", "input": "Hi.", "response_format": "wav"}
    with subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert "up\n" in process.stdout  # reads that far
            headers = {"Authorization": f"Bearer {KEY}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as client:
                answer = client.post("/v1/audio/speech", json=body)
                assert (answer.status_code, answer.content) == (200, server.say("Hi.").content)
                with client.stream("POST", "/v1/audio/speech", json={**body, "stream": True}) as pieces:
                    assert pieces.status_code == 200
                    assert sum(map(len, pieces.iter_raw())) > 1000
                wrong = client.post("/v1/audio/speech", json={**body, "voice": "nobody"})
                assert (wrong.status_code, wrong.json()["error"]["code"]) == (404, "voice_not_found")
                assert client.get("/voices", headers={"Authorization": "Bearer x"}).status_code == 401
                url = f"ws://127.0.0.1:{port}/v1/audio/live"
                with connect(url, additional_headers=headers, open_timeout=30) as talk:
                    talk.send(json.dumps({"voice": "alice"}))
                    talk.send(json.dumps({"text": "Hi.", "end": True}))
                    told = [json.loads(one)["type"] for one in talk if isinstance(one, str)]
                assert told == ["begin", "sentence", "end"]
        finally:
            process.stdin.close()
            process.wait(90)
