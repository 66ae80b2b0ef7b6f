"""A folder that any static server serves: the page, the module, onnxruntime-web and a voice.

index.html, *.mjs, page.css, sw.js     the page
ort/                                    onnxruntime-web, by hash
voice/                                  the artifact, unpacked
english/                                the tables of English, for a voice that speaks it
site.json                               what there is, by size and SHA-256; the phone table and the phrases
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gsvexport.artifact.manifest import MANIFEST, README, Manifest
from gsvexport.backends.web import english, runtime
from gsvexport.errors import InputError
from gsvexport.files import canonical_json, sha256_bytes, sha256_file
from gsvexport.model import Model
from gsvexport.stages import VERSIONS
from gsvexport.text.symbols import symbols

PAGE = Path(__file__).parent / "page"
VOICE = "voice"
SITE = "site.json"
LEFT_OUT = (README, "calibration.json")  # of the artifact: what no page reads
_STREAMED = ("prefill", "step", "acoustic", "vocoder")
_TEXT = """\
{name}: a page that speaks, for any server of static files over https, or on localhost:

    python -m http.server --directory . 8000        http://localhost:8000

Nothing is sent anywhere. After the first sentence the page works without a network.

Threads need two headers. A service worker adds them and the page is loaded once more; where a server sends them, that
is not needed:

    Cross-Origin-Opener-Policy: same-origin
    Cross-Origin-Embedder-Policy: require-corp

.mjs files have to be sent as text/javascript; .wasm files are best sent as application/wasm, all of it compressed.
onnxruntime-web {version} is under MIT, (c) Microsoft Corporation. What binds the voice is in voice/NOTICE, what
binds the tables of English in english/NOTICE, where there are such.
"""


def refuse(model: Model, manifest: Manifest) -> None:
    """Refuse what the page cannot speak.

    Raises:
        InputError: another backend's artifact, a voice of v3 or v4, one without a reference.
    """
    if others := sorted({entry.backend for entry in manifest.stages.values()} - {"web"}):
        raise InputError(
            f"{manifest.name} was built for {manifest.target['name']}, whose stages run on {', '.join(others)}",
            fix="gsvexport --target browser VOICE",
        )
    if VERSIONS[model.version].mel is not None:
        raise InputError(f"the page speaks v1 to v2ProPlus; {model.name} is a {model.version} voice")
    if "ge" not in model.baked:
        raise InputError(f"{model.name} has no baked reference", fix="build it with a [reference]")


def write(
    folder: Path,
    model: Model,
    manifest: Manifest,
    phrases: Mapping[str, Any],
    *,
    ort: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Put the page around the artifact that was unpacked to `folder`/voice; returns the bytes of all files.

    `phrases` are those of a pack, as its JSON has them. `ort` is a folder with the files of onnxruntime-web.

    Raises:
        EnvironmentProblem: onnxruntime-web cannot be had, or is another one.
    """
    pinned, found = runtime.pinned(), runtime.files(ort, say)
    (folder / "ort").mkdir()
    for name in pinned.files:
        shutil.copyfile(found / name, folder / "ort" / name)
    for name in LEFT_OUT:
        (folder / VOICE / name).unlink(missing_ok=True)
    page = sorted(path.name for path in PAGE.iterdir() if path.is_file())
    for name in page:
        shutil.copyfile(PAGE / name, folder / name)
    listed = {name: {"size": size, "sha256": digest} for name, (size, digest) in pinned.files.items()}
    about = folder / VOICE / MANIFEST
    fetched = ["model.json", *model.baked.values(), *(model.files[stage] for stage in _STREAMED)]
    fetched += [name for name in manifest.members if name.endswith(".safetensors")]
    site: dict[str, Any] = {
        "schema": 1,
        "name": model.name,
        "language": model.language,
        "version": pinned.version,
        "symbols": list(symbols(model.symbols)),
        "phrases": dict(phrases),
        "ort": listed,
        "manifest": _listed(about),
        "bytes": {
            "voice": about.stat().st_size + sum(manifest.members[name].size for name in fetched),
            "wasm": sum(listed[name]["size"] for name in runtime.WASM),
            "webgpu": sum(listed[name]["size"] for name in runtime.WEBGPU),
        },
        "page": [name for name in page if name not in ("sw.js", "index.html")],
    }
    if model.language == "en":
        english.write(folder / english.FOLDER)
        site["english"] = {name: _listed(folder / english.FOLDER / name) for name in english.FILES}
    content = {name: sha256_file(folder / name) for name in page}
    site["cache"] = f"gsvexport-{sha256_bytes(canonical_json({**site, 'content': content}).encode())[:16]}"
    (folder / SITE).write_bytes(canonical_json(site).encode())
    (folder / README).write_bytes(_TEXT.format(name=model.name, version=pinned.version).encode())
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _listed(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": sha256_file(path)}
