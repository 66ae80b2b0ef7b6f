"""The page of a listening test: one file with all of its sounds, which asks nobody else for anything."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from gsvexport.errors import InputError
from gsvexport.files import atomic_file, canonical_json, refuse_existing, sha256_bytes
from gsvexport.progress import Progress
from gsvexport.report.document import document
from gsvexport.report.markup import Html, element
from gsvexport.report.panel.key import PARTS, Key, arranged
from gsvexport.report.panel.sounds import CODECS, Stimuli, encoded, speak, uri

MOST_MB = 40.0
_STYLE = """
body{max-width:680px}progress{width:100%;height:6px}h1:focus{outline:0}
button,a.next{font:inherit;padding:10px 16px;border:1px solid var(--line);border-radius:8px;background:var(--panel);
color:var(--text);min-height:44px;cursor:pointer;text-decoration:none;display:inline-block}
button:focus-visible,a:focus-visible,input:focus-visible{outline:3px solid var(--fp16);outline-offset:2px}
button:disabled{opacity:.45;cursor:default}.next:not(:disabled){background:var(--pass);color:var(--back);border-color:var(--pass)}
.play.on{background:var(--fp16);color:#fff}.play[data-heard]:not(.on)::after{content:" ✓"}
.row{display:grid;grid-template-columns:96px 1fr 34px;gap:12px;align-items:center;margin:10px 0}
.row .play{padding:10px 8px}.row input{width:100%;min-height:44px}.row output{text-align:right}
.scale{display:grid;grid-template-columns:repeat(5,1fr);font-size:.75rem;color:var(--soft);margin:0 46px 12px 108px;
text-align:center}
fieldset{border:1px solid var(--line);border-radius:8px;margin:12px 0;padding:4px 14px}
fieldset label{display:block;padding:10px 0;min-height:44px}.abx{display:flex;gap:12px;flex-wrap:wrap}
.abx button{flex:1}
.move{display:flex;justify-content:space-between;margin-top:20px}.note{min-height:1.5em;color:var(--soft)}
textarea{width:100%;font:.8rem ui-monospace,monospace;
background:var(--panel);color:var(--text);border:1px solid var(--line)}
"""


def key_of(page: Path) -> Path:
    """Where the key of a page is written."""
    return page.with_name(f"{page.name}.key.json")


def write_test(
    artifacts: Sequence[Path],
    out: Path,
    *,
    reference: Path,
    count: int = 8,
    seed: int = 0,
    parts: Sequence[str] = PARTS,
    codec: str = "flac",
    most_mb: float = MOST_MB,
    texts: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Key:
    """Let everything speak, and write the page to `out` and its key beside it.

    `reference` is the voice's source, or an artifact. `parts` are the kinds of questions, `codec` is of the sounds.

    Raises:
        InputError: an output exists and `force` is false, the page would be larger than `most_mb` 10^6 bytes, or what
            `sounds.speak` refuses.
    """
    for path in (out, key_of(out)):
        refuse_existing(path, force=force)
    wrong = [one for one in parts if one not in PARTS] + ([codec] if codec not in CODECS else [])
    if wrong or not parts:
        raise InputError("this is no listening test", found=", ".join(wrong), limit=", ".join((*PARTS, *CODECS)))
    stimuli = speak(artifacts, reference, count, seed, progress or (lambda _: None), texts)
    key, text = page_of(stimuli, seed, parts, codec)
    size = len(text.encode()) / 1e6
    if size > most_mb:
        fix = "ask for fewer sentences with --count, leave questions out with --test, or take --codec opus"
        raise InputError(
            f"{out} would be larger than it may be", found=f"{size:.1f} MB", limit=f"{most_mb:g} MB", fix=fix
        )
    for path, content in ((key_of(out), canonical_json(key.to_json())), (out, text)):
        with atomic_file(path, force=force) as work:
            work.write_bytes(content.encode())
    return key


def page_of(stimuli: Stimuli, seed: int, parts: Sequence[str], codec: str) -> tuple[Key, str]:
    """The key and the page of sounds. Equal sounds stand in it once."""
    files: dict[str, bytes] = {}

    def stored(rows: Sequence[Sequence[object]]) -> list[list[str]]:
        names = []
        for row in rows:
            data = [encoded(one, stimuli.rate, codec) for one in row]  # type: ignore[arg-type]
            names.append([sha256_bytes(one) for one in data])
            files.update(zip(names[-1], data, strict=True))
        return names

    equal, free = stored(stimuli.equal), stored(stimuli.free)
    key = arranged(stimuli.conditions, stimuli.sentences, equal, free, seed, parts)
    used = {one.data for one in key.sounds}
    place = {name: number for number, name in enumerate(sorted(used))}
    test = {
        "test": key.test,
        "seed": seed,
        "sounds": [uri(files[name], codec) for name in place],
        "stimuli": [place[one.data] for one in key.sounds],
        "mushra": [{"open": one.open, "rated": one.rated} for one in key.mushra],
        "mos": key.mos,
        "abx": key.abx,
    }
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    body = [
        element("style", Html(_STYLE)),
        element("progress", value="0", max="1", aria_label="How far the test has come"),
        element("main", element("noscript", "This page needs JavaScript to play its sounds in a random order.")),
        element("script", Html(json.dumps(test).replace("<", "\\u003c")), type="application/json", id="test"),
        element("script", Html(script)),
    ]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return key, document("A listening test", body, script=f"'sha256-{allowed}'")
