"""What lies in a folder of GPT-SoVITS: the voices that were trained there, their recordings, and upstream's networks.

    GPT_weights_v2Pro/alice-e15.ckpt          SoVITS_weights_v2Pro/alice_e8_s96.pth (… _l32.pth: a LoRA of rank 32)
    logs/alice/2-name2text.txt                recording, phones, phones of each character, text; columns by tabs
    logs/alice/5-wav32k/                      the recordings, 16 bits at 32 kHz
    *.list                                    recording|speaker|language|text, in logs/alice/ or output/asr_opt/
    GPT_SoVITS/pretrained_models/             HuBERT, BERT, the speaker network, vocoders, bases of LoRAs

Names in it were chosen by somebody else. Each is one part of a path, and what leads out of the folder is not followed.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsvexport.errors import EnvironmentProblem, InputError, VoiceError
from gsvexport.signal.audio import clipped_share, decode, loudness
from gsvexport.stages import VERSIONS
from gsvexport.target.tables import nearest
from gsvexport.untrusted.reading import lines, read_text, why
from gsvexport.voice.profile import LANGUAGES
from gsvexport.voice.reference import CLIPPED, REFERENCE_SECONDS, SILENT_DB

PRETRAINED = "GPT_SoVITS/pretrained_models"
# What upstream calls its networks, below that folder. A vocoder and a base are of one version.
NETWORKS = {
    "hubert": "chinese-hubert-base",
    "bert": "chinese-roberta-wwm-ext-large",
    "speaker": "sv/pretrained_eres2netv2w24s4ep4.ckpt",
}
VOCODERS = {"v3": "models--nvidia--bigvgan_v2_24khz_100band_256x", "v4": "gsv-v4-pretrained/vocoder.pth"}
BASES = {"v3": "s2Gv3.pth", "v4": "gsv-v4-pretrained/s2Gv4.pth"}

_GPT = re.compile(r"(?P<name>.+)-e(?P<epoch>\d{1,9})\.ckpt", re.DOTALL)
_SOVITS = re.compile(r"(?P<name>.+)_e(?P<epoch>\d{1,9})_s(?P<step>\d{1,12})(?:_l\d{1,6})?\.pth", re.DOTALL)
_MOST_ENTRIES = 10_000  # of a folder
_MOST_LISTS = 20
_MOST_HEARD = 40  # recordings that are decoded to find a reference
_LARGEST_LIST = 32 << 20  # bytes; 10,000 sentences take about 5 MB
_LONGEST_TEXT = 500  # characters; ten seconds of speech have about 200
_BEST_SECONDS = 6.0
_BYTES_PER_SECOND = 64_000  # of upstream's recordings
_PAUSES = ("SP", "SP2", "SP3", "UNK", "_")
LISTED_LANGUAGES = {**{name: name for name in LANGUAGES}, "jp": "ja"}


@dataclass(frozen=True)
class Weights:
    """A weights file: whose, after which epoch and step, and the version whose folder it lies in. A file that was
    renamed has no epoch."""

    path: Path
    version: str
    name: str
    epoch: int | None = None
    step: int = 0


@dataclass(frozen=True)
class Recording:
    """One sentence that a voice was trained with, and its language, where that is known."""

    path: Path
    text: str
    language: str | None


@dataclass(frozen=True)
class Trained:
    """The weights in a folder of GPT-SoVITS. `passed` says in words what was passed over, and why."""

    folder: Path
    gpt: tuple[Weights, ...]
    sovits: tuple[Weights, ...]
    passed: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """The voices that have both files, of whatever version."""
        return sorted({one.name for one in self.gpt} & {one.name for one in self.sovits})

    def versions(self, name: str) -> list[str]:
        """The versions in which a voice has both files."""
        both = ({one.version for one in files if one.name == name} for files in (self.gpt, self.sovits))
        first, second = both
        return [version for version in VERSIONS if version in first & second]


def look(folder: Path) -> Trained:
    """The weights below `GPT_weights*/` and `SoVITS_weights*/`.

    Raises:
        InputError: it is no folder of GPT-SoVITS, or one of those is too large to be looked through.
    """
    passed: list[str] = []
    gpt, sovits = (
        tuple(
            _weights(path, version, pattern)
            for version in VERSIONS
            for path in _files(folder, _root(kind, version), suffix, passed)
        )
        for kind, suffix, pattern in (("GPT", ".ckpt", _GPT), ("SoVITS", ".pth", _SOVITS))
    )
    roots = [_root(kind, version) for kind in ("GPT", "SoVITS") for version in VERSIONS]
    if not any(os.path.isdir(folder / name) for name in roots):
        raise InputError(
            f"{folder} is no folder of GPT-SoVITS: it holds no GPT_weights*/ and no SoVITS_weights*/",
            fix="give the folder that holds webui.py, or the two files: gsvexport init GPT.ckpt SOVITS.pth",
        )
    return Trained(folder, gpt, sovits, tuple(passed))


def pair(
    found: Trained,
    name: str,
    version: str | None = None,
    gpt_epoch: int | None = None,
    sovits_epoch: int | None = None,
) -> tuple[Weights, Weights]:
    """The GPT and the SoVITS file of a voice: the newest, but for an epoch that is asked for.

    Raises:
        InputError: there is none, there are several versions and none is asked for, or that epoch is not there.
    """
    known = found.names()
    files = [one for one in (*found.gpt, *found.sovits) if one.name == name]
    if not files:
        raise InputError(
            f"no voice is called {name!r} in {found.folder}{nearest(name, known)}",
            problems=found.passed,
            limit=_some(known) if known else "no voice there has both files",
        )
    versions = [one for one in found.versions(name) if version in (None, one)]
    there = [str(one.path.relative_to(found.folder)) for one in files]
    if not versions:
        of = f" of {version}" if version else ""
        raise InputError(
            f"the voice {name!r} has no pair of a GPT and a SoVITS file{of} in {found.folder}",
            problems=[*found.passed, f"there is: {_some(there)}"],
            fix="name the two files: gsvexport init GPT.ckpt SOVITS.pth",
        )
    if len(versions) > 1:
        raise InputError(
            f"the voice {name!r} is there in {len(versions)} versions: {', '.join(versions)}",
            fix=f"say which: --version {versions[-1]}",
        )
    return (
        _newest([one for one in found.gpt if one.name == name and one.version == versions[0]], gpt_epoch, "gpt"),
        _newest(
            [one for one in found.sovits if one.name == name and one.version == versions[0]], sovits_epoch, "sovits"
        ),
    )


def epochs(files: Iterable[Weights], like: Weights) -> list[int]:
    """The epochs of one voice that are there, sorted."""
    same = [one for one in files if (one.name, one.version) == (like.name, like.version)]
    return sorted({one.epoch for one in same if one.epoch is not None})


def recordings(folder: Path, name: str) -> tuple[list[Recording], list[str]]:
    """What a voice was trained with, as far as its `logs/` still has it, in the order of its table; and what was passed
    over, in words."""
    passed: list[str] = []
    place = f"logs/{name}"
    if not _part(name) or (base := _within(folder, place, passed)) is None:
        return [], passed
    texts: dict[str, tuple[str, str | None]] = dict(_table(folder, f"{place}/2-name2text.txt", passed))
    for path in _files(folder, place, ".list", passed)[:_MOST_LISTS]:
        own = dict(_listed(folder, f"{place}/{path.name}", passed))  # as it was written, before it was normalised
        texts = {wav: own.get(wav, told) for wav, told in texts.items()} if texts else own
    if not texts:
        for path in _files(folder, "output/asr_opt", ".list", passed)[:_MOST_LISTS]:
            texts |= dict(_listed(folder, f"output/asr_opt/{path.name}", passed))
    found = []
    for wav, (text, language) in itertools.islice(texts.items(), _MOST_ENTRIES):
        path = base / "5-wav32k" / wav
        if os.path.lexists(path) and (plain := _within(folder, f"{place}/5-wav32k/{wav}", passed, file=True)):
            found.append(Recording(plain, text, language))
    return found, passed


def suggested(found: Sequence[Recording], most: int = 1) -> list[Recording]:
    """The recordings that are best to speak like: neither silent nor clipped, of 3 to 10 seconds, and near to 6.

    At most `_MOST_HEARD` are listened to. Where sounds cannot be decoded here, their sizes decide.
    """
    low, high = REFERENCE_SECONDS
    chosen: list[Recording] = []
    for one in sorted(found, key=lambda one: (abs(_seconds(one.path) - _BEST_SECONDS), one.path.name))[:_MOST_HEARD]:
        if len(chosen) == most:
            break
        try:
            seconds, level, clipped = sound(one.path)
        except VoiceError:
            continue
        except EnvironmentProblem:
            return [one]
        if low <= seconds <= high and level >= SILENT_DB and clipped <= CLIPPED[0]:
            chosen.append(one)
    return chosen


def sound(path: Path) -> tuple[float, float, float]:
    """Seconds, level in dB below full scale, and clipped share of a recording.

    Raises:
        VoiceError, EnvironmentProblem: it cannot be decoded, or nothing can be here.
    """
    samples, rate = decode(path)
    return len(samples) / rate, loudness(samples, rate), clipped_share(samples)


def networks(folder: Path, version: str) -> tuple[dict[str, Path], list[str]]:
    """Upstream's networks below its `pretrained_models`, by the key that names them in a voice.toml; and what was
    passed over, in words."""
    passed: list[str] = []
    names = {**NETWORKS, "vocoder": VOCODERS.get(version), "base": BASES.get(version)}
    found = {
        key: path
        for key, name in names.items()
        if name is not None and (path := _within(folder, name, passed)) is not None and _whole(folder, path, passed)
    }
    return found, passed


def _root(kind: str, version: str) -> str:
    return f"{kind}_weights" + ("" if version == "v1" else f"_{version}")


def _weights(path: Path, version: str, pattern: re.Pattern[str]) -> Weights:
    told = pattern.fullmatch(path.name)
    if told is None:
        return Weights(path, version, path.stem)
    return Weights(path, version, told["name"], int(told["epoch"]), int(told.groupdict().get("step") or 0))


def _newest(files: Sequence[Weights], epoch: int | None, key: str) -> Weights:
    there = [one for one in files if epoch in (None, one.epoch)]
    if not there:
        known = sorted({one.epoch for one in files if one.epoch is not None})
        raise InputError(
            f"the voice {files[0].name!r} has no {key} file of epoch {epoch}",
            limit=f"epochs {', '.join(map(str, known))}" if known else "its files name no epoch",
            fix=f"leave --{key}-epoch out for the newest",
        )
    return max(there, key=lambda one: (one.epoch is not None, one.epoch or 0, one.step, one.path.name))


def _part(name: str) -> bool:
    """Whether a name is one part of a path, on every system."""
    return name not in ("", ".", "..") and not re.search(r"[/\\\0]", name) and len(os.fsencode(name)) <= 255


def _within(folder: Path, name: str, passed: list[str], *, file: bool = False) -> Path | None:
    """What is called so below a folder; None where nothing is, and after noting what is passed over."""
    path = folder / name
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    if not _leads_inside(folder, path):
        passed.append(f"{path} is a link that leads out of {folder}, and is not followed; name what it means yourself")
        return None
    if not (stat.S_ISREG(kind) or (stat.S_ISDIR(kind) and not file)):
        passed.append(f"{path} is no regular file")
        return None
    return path


def _leads_inside(folder: Path, path: Path) -> bool:
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return (
        os.path.commonpath([real, root]) == root
        if os.path.splitdrive(real)[0] == os.path.splitdrive(root)[0]
        else False
    )


def _whole(folder: Path, path: Path, passed: list[str]) -> bool:
    """Whether nothing in a network's folder leads out of where it was looked for."""
    entries = _entries(path) if path.is_dir() else ()
    out = [entry for entry in entries if entry.is_symlink() and not _leads_inside(folder, Path(entry.path))]
    passed += [f"{entry.path} is a link that leads out of {folder}, and is not followed" for entry in out[:3]]
    return not out


def _files(folder: Path, name: str, suffix: str, passed: list[str]) -> list[Path]:
    """The regular files of a kind in a folder, by name."""
    if (place := _within(folder, name, passed)) is None or not place.is_dir():
        return []
    named = sorted(entry.name for entry in _entries(place) if entry.name.endswith(suffix))
    found = (_within(folder, f"{name}/{one}", passed, file=True) for one in named)
    return [path for path in found if path is not None]


def _entries(place: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            found = list(itertools.islice(entries, _MOST_ENTRIES + 1))
    except OSError as error:
        raise InputError(f"{place} {why(error)}", fix="name the files yourself") from error
    if len(found) > _MOST_ENTRIES:
        raise InputError(f"{place} has more than {_MOST_ENTRIES} entries", fix="name the files yourself")
    return found


def _lines(folder: Path, name: str, passed: list[str]) -> list[str]:
    """The lines of a text file; nothing, and a note, where it cannot be read."""
    if (path := _within(folder, name, passed, file=True)) is None:
        return []
    try:
        return lines(read_text(path, _LARGEST_LIST, mark=True))
    except (OSError, ValueError) as error:
        passed.append(f"{path} {why(error)}")
        return []


def _table(folder: Path, name: str, passed: list[str]) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Recording → text and language of a 2-name2text.txt, which holds phones instead of a language."""
    for line in _lines(folder, name, passed):
        columns = line.split("\t")
        if len(columns) == 4 and _part(columns[0]) and _speakable(columns[3]):
            yield columns[0], (columns[3].strip(), _language_of_phones(columns[1].split()))


def _listed(folder: Path, name: str, passed: list[str]) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Recording → text and language of a .list, whose paths are those of the machine that wrote it."""
    for line in _lines(folder, name, passed):
        columns = line.split("|", 3)
        if len(columns) != 4:
            continue
        wav = columns[0].replace("\\", "/").rpartition("/")[2].strip()
        if _part(wav) and _speakable(columns[3]):
            yield wav, (columns[3].strip(), LISTED_LANGUAGES.get(columns[2].strip().lower()))


def _speakable(text: str) -> bool:
    return bool(text.strip()) and len(text) <= _LONGEST_TEXT and text.strip().isprintable()


def _language_of_phones(phones: Sequence[str]) -> str | None:
    """The language whose phones these are: jamo, Cantonese (Y and lower case), finals with a tone, ARPABET, or others
    in lower case, which are Japanese. None of signs and pauses alone."""
    spoken = [phone for phone in phones if phone not in _PAUSES]
    for language, pattern in (
        ("ko", "[\u3131-\u318e]"),
        ("yue", "Y[a-z]+[0-9]?"),
        ("zh", "[a-zE]+[0-9]+"),
        ("en", "[A-Z]{2}[0-2]"),
        ("ja", "[a-z]+"),
        ("en", "[A-Z]{1,2}"),
    ):
        if any(re.fullmatch(pattern, phone) for phone in spoken):
            return language
    return None


def _seconds(path: Path) -> float:
    try:
        return path.stat().st_size / _BYTES_PER_SECOND
    except OSError:
        return 0.0


def _some(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
