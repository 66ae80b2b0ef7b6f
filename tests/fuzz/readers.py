"""A target for every reader of bytes that strangers make: from bytes to nothing, or to an error of ours."""

from __future__ import annotations

import contextlib
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.artifact import container
from gsvexport.artifact.keys import trusted_keys
from gsvexport.artifact.manifest import Manifest, Member, StageEntry
from gsvexport.artifact.signature import Claim, from_bytes, sign, to_bytes
from gsvexport.backends.tensorrt import plans
from gsvexport.backends.tensorrt.recipe import Engine, Profile, to_json
from gsvexport.backends.tflite.placement import Finding, Placement, Row
from gsvexport.backends.tflite.report import Compile, Share, page
from gsvexport.backends.tflite.report import Report as Placed
from gsvexport.backends.tflite.session import read_recipe
from gsvexport.compiler.source import open_source
from gsvexport.errors import GsvError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.model import Dims, Model, SamplingDefaults, Spectrogram, read_model
from gsvexport.registry.index import Entry, published, read_entry
from gsvexport.registry.places import FolderPlace
from gsvexport.runtime.baked import read_baked
from gsvexport.target.target import read_target
from gsvexport.untrusted import reading
from gsvexport.untrusted.external import check_external
from gsvexport.verify import golden
from gsvexport.verify.report import Check, Report
from gsvexport.voice.checkpoint import read_checkpoint, read_tensor_file
from gsvexport.voice.pickle import PickleError, plain, read_pickle
from gsvexport.voice.profile import read_profile
from gsvexport.voice.safetensors import read_safetensors

EXPECTED = (GsvError, reading.Refused, PickleError)
Target = Callable[[Path], Any]


def _array(array: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _model() -> bytes:
    dims = Dims(L=1, D=8, H=2, V=5, I=2, G=4, phones=9, text_phones=9, codes=4, positions=50)
    parts = (dims, Spectrogram(), SamplingDefaults())
    model = Model("a", "en", "v2", "v2", 32000, 640, 4, *parts, {"step": "step.onnx"}, {"ge": "baked/ge.npy"})
    return canonical_json(model.to_json()).encode()


def _manifest() -> Manifest:
    stages = {"step": StageEntry("step.onnx", "onnxruntime", "fp32", ("note",))}
    members = {"step.onnx": Member(5, sha256_bytes(b"graph"))}
    return Manifest("a", "v2", {"name": "x", "device": {"arch": "x86-64"}}, "s", None, {"onnx": "1"}, stages, members)


def _container() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "files").mkdir()
        (Path(folder) / "files/step.onnx").write_bytes(b"graph")
        container.write(_manifest(), Path(folder) / "files", Path(folder) / "a.gsv")
        return (Path(folder) / "a.gsv").read_bytes()


def _torch() -> bytes:
    pickled = (
        b"\x80\x02}q\x00(X\x06\x00\x00\x00weightq\x01}q\x02X\x01\x00\x00\x00aq\x03ctorch._utils\n_rebuild_tensor_v2\nq\x04"
        b"((X\x07\x00\x00\x00storageq\x05ctorch\nFloatStorage\nq\x06X\x01\x00\x00\x000q\x07X\x03\x00\x00\x00cpuq\x08K\x02tq\t"
        b"QK\x00K\x02\x85q\nK\x01\x85q\x0b\x89ccollections\nOrderedDict\nq\x0c)Rq\rtq\x0eRq\x0fsX\x06\x00\x00\x00configq\x10}q"
        b"\x11X\x04\x00\x00\x00infoq\x12X\x01\x00\x00\x00xq\x13u."
    )
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", np.ones(2, "<f4").tobytes())
        archive.writestr("a/version", "3\n")
    return stream.getvalue()


def _safetensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


def _entry() -> bytes:
    return Entry("a", "1", "x", "a" * 64, "b" * 64, 5, "v2", {"arch": "x86-64"}, {"pass": 1}).to_bytes()


def _golden() -> bytes:
    files = {"a.npy": {"sha256": "0" * 64, "size": 1}}
    row = {"name": "a", "stage": "step", "inputs": {"token": "a.npy"}, "outputs": {}}
    return canonical_json({"schema": 1, "seed": 1, "cases": [row], "files": files}).encode()


def _report() -> bytes:
    return canonical_json(Report((Check(1, "step", "snr_db", "x", 90.0, 60.0, "min", 3, "pass"),)).to_json()).encode()


def _graph() -> bytes:
    entry = b"\x0a\x08location\x12\x01w"
    tensor = b"\x42\x01a\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    return b"\x08\x09\x3a" + bytes([len(graph)]) + graph


def _in(name: str, read: Callable[[Path], Any]) -> Target:
    """Read the folder in which the bytes have this name."""

    def run(path: Path) -> Any:
        folder = path.parent / "folder"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(path.read_bytes())
        return read(folder)

    return run


def _plain_pickle(path: Path) -> None:
    plain(read_pickle(path.read_bytes()))


def _baked(folder: Path) -> Any:
    (folder / "model.json").write_bytes(_model())
    return read_baked(folder, read_model(folder))


def _every_member(path: Path) -> None:
    container.damage(path)
    container.signed(path)
    for one in container.payloads(path):
        with contextlib.suppress(GsvError):
            container.read_member(path, one.name)


def _named(ending: str, read: Callable[[Path], Any]) -> Target:
    return lambda path: read(path.rename(path.with_suffix(ending)))


def _tensorrt() -> bytes:
    profile = Profile("all", {"codes": ((1, 1), (1, 4), (1, 9))})
    ports = {"inputs": {"codes": "int32"}, "outputs": {"audio": "float32"}}
    engine = Engine("vocoder", ("vocoder",), "vocoder.onnx", "", (profile,), ("Tanh",), ports, 0.5)
    return canonical_json(to_json([engine], phones=9)).encode()


def _tflite() -> bytes:
    part = {"file": "vocoder.tflite", "window": 9, "left": 1, "right": 1, "rate": 2}
    return canonical_json({"schema": 1, "output": "audio", "samples": True, "parts": [part]}).encode()


def _placement() -> bytes:
    row = Row("CONV_2D", "a", "refused", 9, (Finding("dtype", "float", "docs", "issue"),))
    placed = Placement("vocoder.tflite", 14, (row,), 1, 2, 3, 4, ("a", 5), 13, 0.5)
    told = Compile("not_run", "no compiler")
    return Placed("vocoder", placed, (Share("rest.tflite", 1, 2),), 0.5, "usb3", told).text().encode()


VOICE = b'[voice]\nname = "a"\nlanguage = "en"\ngpt = "g"\nsovits = "s"\n[reference]\naudio = "r.wav"\n'
TOML = (
    b'title = "x"\n[device]\narch = "x86-64"\n[placement]\ndefault = { backend = "onnxruntime", precision = "fp32" }\n'
)
KEYS = b"ed25519 " + b"A" * 43 + b"= name\n"

# Reader → (target, seed)
TARGETS: dict[str, tuple[Target, bytes]] = {
    "JSON": (lambda path: reading.read_json(path), b'{"a": [1, 2.5, "x", null, true]}'),
    "npy": (lambda path: reading.read_array(path), _array(np.arange(6, dtype="<f4").reshape(2, 3))),
    "text": (lambda path: reading.read_text(path, 100), b"text"),
    "graph": (check_external, _graph()),
    "manifest": (
        lambda path: Manifest.from_bytes(path.read_bytes(), "a"),
        canonical_json(_manifest().to_json()).encode(),
    ),
    "container": (_every_member, _container()),
    "signatures": (
        lambda path: from_bytes(path.read_bytes(), "a"),
        to_bytes([sign(bytes(32), b"m", Claim("a", "1", "2026-01-01T00:00:00Z")), sign(b"x" * 32, b"m")]),
    ),
    "keys": (trusted_keys, KEYS),
    "model": (_in("model.json", read_model), _model()),
    "baked": (_in("baked/ge.npy", _baked), _array(np.zeros((1, 4, 1), "<f4"))),
    "source": (_in("source.json", open_source), b'{"schema": 1, "files": {}, "digest": ""}'),
    "golden": (_in("golden.json", golden.read), _golden()),
    "report": (lambda path: Report.from_json(reading.read_json(path)), _report()),
    "entry": (lambda path: read_entry(path.read_bytes(), "a"), _entry()),
    "entries": (_in("entries/a/x/1.json", lambda folder: published(FolderPlace(folder))), _entry()),
    "pickle": (_plain_pickle, b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b]q\x01(K\x02K\x03eu."),
    "checkpoint": (read_checkpoint, _torch()),
    "tensor file": (lambda path: read_tensor_file(path, "state_dict"), _torch()),
    "safetensors": (read_safetensors, _safetensors()),
    "TensorRT's recipe": (_in("tensorrt.json", plans.read_recipe), _tensorrt()),
    "TFLite's recipe": (read_recipe, _tflite()),
    "placement": (lambda path: page(Placed.from_bytes(path.read_bytes(), "a")), _placement()),
    "voice.toml": (_named(".toml", read_profile), VOICE),
    "target": (_named(".toml", lambda path: read_target(str(path))), TOML),
}


@contextlib.contextmanager
def as_file(data: bytes) -> Iterator[Path]:
    """A file with this content, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        path.write_bytes(data)
        yield path
