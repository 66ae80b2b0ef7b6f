"""An exported voice, loaded: run one stage, generate codes, or speak."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from gsvexport.artifact.held import release
from gsvexport.backends import Opener, open_session
from gsvexport.errors import ArtifactError, InputError
from gsvexport.files import sha256_once
from gsvexport.runtime.ahead import AHEAD, MOST_AHEAD, Pace
from gsvexport.runtime.audio import Audio
from gsvexport.runtime.batch import ROWS, WAITING, Batch
from gsvexport.runtime.clone import cloned, features_of
from gsvexport.runtime.flow_matching import EULER
from gsvexport.runtime.loaded import LoadedStages, row
from gsvexport.runtime.ports import Array, each, outside
from gsvexport.runtime.sampling import Floats, Ints, Sampling
from gsvexport.runtime.speech import Manner, early_pieces, latents, pieces, whole
from gsvexport.runtime.text import joined, sentences
from gsvexport.stages import FRAMES_PER_CODE, MAX_TOKENS, VERSIONS
from gsvexport.target.machine import check_machine
from gsvexport.text.phonemise import Sentence

if TYPE_CHECKING:
    from gsvexport.artifact.trust import Key


class LoadedVoice(LoadedStages):
    """A voice that can speak. Graphs are opened when they are first needed and kept until `close`.

    `model` describes the voice, `stages` the graphs it holds, `rate` is the sample rate in Hz, `sampling` the voice's
    own defaults and `baked` the stored results of its reference (empty for a voice without one). `backends` names the
    backend of each stage that ONNX Runtime does not run. Each call keeps its state to itself, so threads may share a
    voice.
    """

    def __enter__(self) -> LoadedVoice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def tokens(
        self,
        phones: Any,
        bert: Any = ...,
        prompt: Any = ...,
        sampling: Sampling | None = ...,
        max_tokens: int = ...,
        return_logits: Literal[False] = ...,
        *,
        on_token: Callable[[int], object] | None = ...,
    ) -> Ints: ...

    @overload
    def tokens(
        self,
        phones: Any,
        bert: Any = ...,
        prompt: Any = ...,
        sampling: Sampling | None = ...,
        max_tokens: int = ...,
        *,
        return_logits: Literal[True],
        on_token: Callable[[int], object] | None = ...,
    ) -> tuple[Ints, Floats]: ...

    def tokens(
        self,
        phones: Any,
        bert: Any = None,
        prompt: Any = None,
        sampling: Sampling | None = None,
        max_tokens: int = MAX_TOKENS,
        return_logits: bool = False,
        *,
        on_token: Callable[[int], object] | None = None,
    ) -> Ints | tuple[Ints, Floats]:
        """Semantic codes (25 Hz) for one sentence: int64 [n], without EOS.

        `phones` is [X] or [1, X]; `bert` [1024, X] or [1, 1024, X], zeros when absent. `prompt` [Y] or [1, Y] is fed
        as it is, with `phones` as they are; an empty one means prompt-free. Without `prompt` the baked one is used,
        and its phones are put in front of `phones`. `sampling` defaults to the voice's own. When `max_tokens` is
        reached, all of them are returned; prompt and codes together have at most `model.dims.positions`. `on_token`
        is called with each code as soon as it is known. With `return_logits` also the raw logits float32 [steps, V]
        of every step that ran, before any penalty.

        Raises:
            InputError: arguments out of range (all listed), or no prompt given and none baked.
            BackendError: the backend failed.
        """
        if problems := outside("max_tokens", max_tokens, 1, integer=True):
            raise InputError("no codes can be generated", problems=problems)
        chosen = sampling or self.sampling
        result = self.generate(phones, bert, prompt, chosen, chosen.draws(), max_tokens, on_token)
        return (result.tokens, result.logits) if return_logits else result.tokens

    def synthesize(
        self,
        text: str | None = None,
        phones: Any = None,
        *,
        language: str | None = None,
        seed: int = 0,
        speed: float = 1.0,
        noise_scale: float | None = None,
        sampling: Sampling | None = None,
        prompt: Any = None,
        bert: Any = None,
        conditioning: Mapping[str, Any] | None = None,
        max_tokens: int = MAX_TOKENS,
        steps: int | None = None,
        cfg_rate: float = 0.0,
        solver: str = EULER,
        progress: Callable[[int, int], None] | None = None,
        batch: Batch | None = None,
        retry: bool = False,
    ) -> Audio:
        """Speak a text in `language` (the voice's, when absent), or one sentence, given as phones [X] or [1, X].

        The sentences of a text are spoken one after the other, with a pause between; `max_tokens` is for each. `seed`
        decides everything random, the seed in `sampling` nothing. `speed` stretches time (2 is twice as fast),
        `noise_scale` 0 speaks the mean (default 0.5). `bert` and `prompt` as in `tokens`, but a voice without a baked
        prompt speaks prompt-free. `conditioning` is a result of `condition` and defaults to the baked one.

        The codes of several sentences are written side by side. `batch` is one of this voice that writes them together
        with what other callers say, and the next ones while one is voiced; the sound is the same.

        v3 and v4 take `steps` of flow matching (32 and 8 by default; fewer are faster) and may be guided by
        `cfg_rate` (0 is upstream's own; any other doubles the work), have a `noise_scale` of 1 and need their prompt.
        `solver` is how steps are taken: "euler", as upstream does, "adams", of second order for the
        same work, or "midpoint", of second order for twice the work (docs/v3-v4.md says what that was worth).

        `progress` is told the number of each sentence, from 1, as it begins, and how many there are.

        `Audio.notes` says which sentences ran away: did not end, repeat themselves, or are far longer or shorter than
        their phones suggest (docs/runaways.md). With `retry` each of those is said once more with another seed, which
        `seed` decides, and the better try is kept.

        Raises:
            InputError: arguments out of range (all listed), a text that cannot be read, a voice without conditioning,
                or an artifact that lacks a stage.
            BackendError: the backend failed.
        """
        manner = Manner(
            seed,
            speed,
            noise_scale,
            sampling,
            prompt,
            bert,
            conditioning,
            max_tokens,
            steps=steps,
            cfg_rate=cfg_rate,
            solver=solver,
            progress=progress,
            batch=batch,
            retry=retry,
        )
        rows = sentences(text, phones, self.model, bert, language, self._features)
        return joined([whole(self, one) for one in latents(self, rows, manner, together=True)])

    def stream(
        self,
        text: str | None = None,
        phones: Any = None,
        *,
        language: str | None = None,
        window: float = 0.4,
        ahead: int | None = AHEAD,
        **how: Any,
    ) -> Iterator[Audio]:
        """`synthesize` in pieces of about `window` seconds; `how` takes what it does.

        They come while codes are still being written: a piece needs `ahead` codes after its own (25 are a second). The
        first one is shorter, and comes as soon however long the sentence is. The codes are those of `synthesize`; the
        sound is not quite, see docs/streaming.md. At a `speed` other than 1 a piece waits for all codes.

        With `ahead` None the first piece comes when a sentence has all its codes, and together the pieces are what
        `synthesize` returns: each looks at as much of the sentence around it as its sound depends on.

        Raises:
            InputError: as `synthesize`, at once; an artifact that does not say how far its vocoder looks; or a v3 or
                v4 voice.
        """
        if VERSIONS[self.model.version].mel is not None:
            raise InputError(
                f"{self.model.name} cannot speak in pieces: {self.model.version} generates chunks of up to "
                "10 seconds in several passes over the whole",
                fix="use synthesize, or say without --stream",
            )
        problems = outside("window", window, 0.02, 60)
        problems += outside("ahead", ahead, 1, MOST_AHEAD, integer=True) if ahead is not None else []
        if problems:
            raise InputError("this cannot be spoken in pieces", problems=problems)
        if self.model.vocoder_context is None:
            raise InputError(f"{self.path} does not say how far its vocoder looks", fix="build the artifact again")
        manner = Manner(**how)
        rows = sentences(text, phones, self.model, manner.bert, language, self._features)
        frames = max(1, round(window * self.rate / self.model.hop))
        if ahead is None or manner.speed != 1:  # another speed stretches the time of a whole sentence
            return pieces(self, latents(self, rows, manner), frames)
        if manner.retry:
            raise InputError(
                "what was heard already cannot be said again, so retry= does not go with codes that are still coming",
                fix="stream with ahead=None, or leave retry= out",
            )
        return early_pieces(self, rows, manner, Pace(max(1, frames // FRAMES_PER_CODE), ahead))

    def batch(self, rows: int = ROWS, waiting: int = WAITING) -> Batch:
        """Codes of many sentences, up to `rows` of them in one step; see `Batch`. Close it, or use it as a context.

        Raises:
            InputError: `rows` or `waiting` out of range.
        """
        return Batch(self, rows, waiting)

    def condition(self, references: Any, speakers: Any = ()) -> dict[str, Floats]:
        """The conditioning of one or several references: the mean of what stage `reference` makes of each.

        `references` is a spectrogram float32 [1, 1025, R] or a sequence of them (`gsvexport.signal.audio.spectrogram`
        makes one), `speakers` the matching embeddings [1, 20480] where the version takes them. The result goes to
        `synthesize(conditioning=…)`.

        Raises:
            InputError: nothing given, a different number of speakers, arrays that do not fit, or a baked artifact.
        """
        stage = self.stage("reference")
        spectrograms = each(references, axes=3)
        embeddings = [row(one) for one in each(speakers, axes=2)]
        takes_speaker = any(port.name == "speaker" for port in stage.inputs)
        wanted = len(spectrograms) if takes_speaker else 0
        if not spectrograms or len(embeddings) != wanted:
            raise InputError(
                "stage 'reference' needs one spectrogram or more"
                + (", and one speaker embedding for each" if takes_speaker else ", and no speaker embedding"),
                found=f"{len(spectrograms)} spectrograms and {len(embeddings)} speaker embeddings",
            )
        results = []
        for index, spectrogram in enumerate(spectrograms):
            feeds = {"spectrogram": spectrogram, **({"speaker": embeddings[index]} if takes_speaker else {})}
            results.append(self.run("reference", feeds))
        return {name: np.mean([one[name] for one in results], axis=0, dtype=np.float32) for name in results[0]}

    def clone(
        self, samples: Any, rate: int, text: str | None = None, *, phones: Any = None, language: str | None = None
    ) -> LoadedVoice:
        """This voice as it speaks after a recording: mono samples [N] in [-1, 1] at `rate` Hz.

        `text` is what is said in it, in `language` (the voice's, when absent), or `phones` are its ids; with either the
        recording, of 3 to 10 s, becomes the prompt. What is returned shares its graphs with this voice; `close` of one
        frees those of both.

        Raises:
            InputError: a recording or a text that cannot be used, or a voice without the stages for it.
        """
        other = copy(self)
        other.baked = cloned(self, samples, rate, text, phones, language)
        return other

    @property
    def _features(self) -> Callable[[Sentence], Array] | None:
        return features_of(self) if "bert" in self.stages else None


def load(
    path: str | Path,
    *,
    threads: int | None = None,
    any_machine: bool = False,
    opener: Opener = open_session,
    key: Key | None = None,
) -> LoadedVoice:
    """Load a `.gsv` artifact, an unpacked artifact folder or a source directory.

    `threads` limits the processor cores a graph may use; None means all of them. `any_machine` opens what was made for
    another processor, too: graphs for ONNX Runtime run everywhere, with other kernels. `opener` opens the stages of an
    artifact in another way than its backends do, to emulate them. A signature that is there has to be right; with
    `key` (the name of a trusted one, a file, base64, or the key itself) that one has to have signed.

    Raises:
        InputError: nothing there, or `key` is none.
        ArtifactError: it is none of the three, or damaged, wrongly signed, or made for another machine.
    """
    # Here and not above, because artifacts are built on top of the runtime.
    from gsvexport.artifact.container import differences, unpacked
    from gsvexport.artifact.manifest import MANIFEST
    from gsvexport.artifact.trust import prove

    found = Path(path)
    if not found.exists():
        raise InputError(f"{found} does not exist", fix="pass a .gsv artifact or a source directory")
    if found.is_dir() and not (found / MANIFEST).is_file():
        if key is not None:
            raise InputError(f"{found} is no artifact, so nobody signed it", fix="leave key= out, or name a .gsv")
        return LoadedVoice(found, threads=threads)
    proven = prove(found, key)
    folder, manifest = found if found.is_dir() else unpacked(found, proven.text), proven.manifest
    if found.is_dir() and (problems := differences(found, manifest, hashes=sha256_once, text=proven.text)):
        raise ArtifactError(f"{found} is damaged", problems=problems, fix="unpack it again")
    if not any_machine:
        check_machine(manifest.target, found)
    backends = {name: entry.backend for name, entry in manifest.stages.items()}
    voice = LoadedVoice(folder, backends=backends, threads=threads, opener=opener)
    if folder != found:
        weakref.finalize(voice, release, folder)  # nobody prunes what it was unpacked to while it lives
    return voice
