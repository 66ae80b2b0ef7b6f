"""`gsvexport unpack`: an artifact as plain files, for programs that link them and know nothing of gsvexport."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gsvexport.artifact import container
from gsvexport.artifact.keys import trusted_file
from gsvexport.artifact.manifest import MANIFEST, README, SIGNATURE, Manifest
from gsvexport.artifact.signature import refusal, to_bytes
from gsvexport.artifact.trust import Key, prove
from gsvexport.backends.carried import code, unproven
from gsvexport.errors import InputError
from gsvexport.files import atomic_directory, refuse_existing, refuse_others
from gsvexport.model import Model, read_model
from gsvexport.progress import note
from gsvexport.stages import Port

_TEXT = """\
{name} ({version}) for {target}: {title}
digest {digest}

Every file is as `manifest.json` lists it, by size and SHA-256.

  model.json    sample rate {rate} Hz, {hop} samples a frame, end of speech is code {eos}, sampling defaults, files
  baked/        the voice's constants, as NumPy arrays: {baked}
  golden/       inputs and what each stage has to make of them: run them first on a new device
  report.json   how it was verified, and the limits
  NOTICE        the voice's licence, where it has one

Graphs that name weights.safetensors find it beside them; load them by path, so that it is mapped and not read.
Phones are ids of the symbol table "{symbols}". A letter in a shape is a free size; batch is 1.
"""
_CACHE = """
A target may lay out the cache of `prefill` and `step` in another way, and give FP16 graphs other types; a file's own
ports tell.
"""


def unpack_to(
    path: Path,
    out: Path,
    *,
    force: bool = False,
    key: Key | None = None,
    allow_unsigned: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Write the files of the container `path`, checked and not compressed, and a README.txt to the folder `out`.

    The folder appears complete or not at all. `load`, `verify` and `inspect` take it as they take the artifact.

    Raises:
        InputError: `out` exists and `force` is false, or it holds something else than an unpacked artifact.
        ArtifactError: the container is hostile, damaged, of an unknown schema or wrongly signed; it carries other code
            than this package's, or code that no trusted key signed while `allow_unsigned` is false.
        EnvironmentProblem: the disk is full or not writable.
    """
    refuse_existing(out, force=force)
    refuse_others(out, own=(out / MANIFEST).is_file(), what="an unpacked artifact")
    if path.is_dir():
        raise InputError(f"{path} is a folder; a .gsv file is unpacked")
    say = progress or (lambda _: None)
    proven = prove(path, key)
    if reason := unproven(proven.manifest, str(path)):
        say(note(f"warning: {reason}"))
    if code(proven.manifest) and key is None and proven.trusted is None:
        if not allow_unsigned:
            raise refusal(f"{path}, which carries code,", proven.keys, trusted_file())
        say(note(f"warning: {path} carries code, and no trusted key signed it"))
    with atomic_directory(out, force=force) as work:
        say(f"unpacking {path}, checking every byte")
        manifest = container.unpack(path, work, proven.text)
        if proven.signatures:
            (work / SIGNATURE).write_bytes(to_bytes(proven.signatures))
        (work / README).write_bytes(readme(manifest, read_model(work)).encode())
    return manifest


def readme(manifest: Manifest, model: Model) -> str:
    """What a person needs to know to run the files: every stage's file and ports, and when it runs."""
    target = {"title": "", **manifest.target}
    text = _TEXT.format(
        name=manifest.name,
        version=manifest.version,
        digest=manifest.digest,
        target=target["name"],
        title=target["title"],
        rate=model.rate,
        hop=model.hop,
        eos=model.eos,
        symbols=model.symbols,
        baked=", ".join(sorted(model.baked)) or "none",
    )
    for name, stage in model.stages.items():
        entry = manifest.stages.get(name)
        how = f"{entry.file}, {entry.backend}, {entry.precision}" if entry else model.files[name]
        text += f"\n{name}, once for each {stage.when}: {how}\n"
        text += "".join(f"  in   {_port(port)}\n" for port in stage.inputs)
        text += "".join(f"  out  {_port(port)}\n" for port in stage.outputs)
    if manifest.engines is not None:
        text += f"\n{', '.join(sorted(manifest.engines['plans']))}: {manifest.engines['notice']}\n"
    return text + _CACHE


def _port(port: Port) -> str:
    return f"{port.name:<12} {port.dtype:<8} [{', '.join(map(str, port.shape))}]  {port.meaning}"
