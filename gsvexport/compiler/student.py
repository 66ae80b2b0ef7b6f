"""Which voice a target is built of: the one that was named, or a smaller one that lies beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from gsvexport.compiler.inputs import Opened, open_voice
from gsvexport.errors import VoiceError
from gsvexport.progress import Progress, note
from gsvexport.target.tables import LARGEST
from gsvexport.target.target import Target
from gsvexport.untrusted.reading import read_text, why
from gsvexport.voice.profile import Profile, read_profile

if TYPE_CHECKING:
    from gsvexport.voice.profile import ReferenceTable
    from gsvexport.voice.voice import Voice

_MOST = 1000  # folders beside a voice that are looked into


def of_targets(
    opened: Opened,
    targets: Sequence[Target],
    *,
    reference: ReferenceTable | None = None,
    progress: Progress | None = None,
) -> list[Opened]:
    """What each of `targets` is built of: `opened`, or its student for a target that takes one (`student = true`).

    A student lies in a folder beside the voice's, and its `[slim]` has the hashes of the voice's weights; of several
    the one with the smallest weights is taken. Which one is told, and so is one that cannot be taken. A student that
    was named, and an exported source, stay what they are. `reference` takes the place of the student's own.

    Raises:
        VoiceError: the student is broken; all findings.
    """
    say, voice = progress or (lambda _: None), opened.voice
    takes = [target for target in targets if target.student]
    if not takes or voice is None or "slim" in voice.provenance:
        return [opened] * len(targets)
    found = sorted(_students(voice, say), key=lambda one: (_size(one), one.name))
    if not found:
        return [opened] * len(targets)
    taken, *others = found
    more = f"; larger: {', '.join(one.name for one in others)}" if others else ""
    names = ", ".join(target.name for target in takes)
    say(note(f"{names}: {taken.path.parent} is taken, a smaller {voice.name} that lies beside it{more}"))
    student = open_voice(taken.path, reference=reference, progress=say)
    return [student if target.student else opened for target in targets]


def _students(voice: Voice, say: Progress) -> Iterator[Profile]:
    """The profiles of what was made of a voice with these very weights, in the folders beside its own."""
    folder = voice.path.parent.resolve()
    try:
        beside = sorted(islice(folder.parent.glob("*/voice.toml"), _MOST))
    except OSError as error:
        say(note(f"{folder.parent} is not searched for smaller voices: {why(error)}"))
        return
    for path in beside:
        try:
            if "[slim]" not in read_text(path, LARGEST, mark=True):
                continue
            profile = read_profile(path)
        except (VoiceError, OSError, ValueError) as error:
            say(note(f"{path.parent} is no smaller voice to take: {' '.join(str(error).split())}"))
            continue
        table = profile.slim
        if table is None or path.parent.resolve() == folder:
            continue
        if (table.teacher_gpt, table.teacher_sovits) == (voice.gpt.sha256, voice.sovits.sha256):
            yield profile
        elif (path.parent / table.teacher).resolve() == folder:
            say(note(f"{path.parent} is no smaller voice to take: it was made of other weights of {voice.name}"))


def _size(profile: Profile) -> int:
    """Bytes of its weights."""
    return sum(Path(one).stat().st_size for one in (profile.gpt, profile.sovits))
