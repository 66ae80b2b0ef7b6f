"""What runs an artifact: `gsvexport say` and `gsvexport bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gsvexport.cli.echo import echo
from gsvexport.cli.numbers import Finite
from gsvexport.cli.progress import shows_progress
from gsvexport.errors import InputError
from gsvexport.progress import Progress

_PATH = click.Path(path_type=Path)
_key = click.option(
    "--key", metavar="KEY", help="This key must have signed it: a trusted one's name, a file, or base64."
)
_any_machine = click.option("--any-machine", is_flag=True, help="Also what was made for another processor.")


@click.command()
@click.argument("artifact", type=_PATH)
@click.argument("text", required=False)
@click.option("--text-file", type=_PATH, metavar="FILE", help="Say what is in FILE, UTF-8; - is standard input.")
@click.option("--phones", help='Phone names or ids, separated by spaces: "HH AH0 L OW1 ."')
@click.option("--pack", type=_PATH, metavar="FILE", help="Say a phrase of a pack (gsvexport phrases).")
@click.option("--phrase", metavar="NAME", help="Which one, with --pack.")
@click.option("--slot", "slots", multiple=True, metavar="SLOT=VALUE", help="What a slot of it is filled with.")
@click.option(
    "-o",
    "--out",
    type=_PATH,
    required=True,
    help="File to write, as its ending says: .wav, .flac, .ogg, .opus, .mp3; - is standard output.",
)
@click.option("--stream", is_flag=True, help="In pieces, as soon as each is computed; to - as raw 16-bit samples.")
@click.option(
    "--ahead",
    type=click.IntRange(0),
    help="With --stream: codes that a piece waits for beyond its own; 0 waits for the sentence. [default: 8]",
)
@click.option("--language", help="TEXT's language, where it is not the voice's: en, ja, ko, yue, zh or auto.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides everything random.")
@click.option("--speed", type=Finite(), default=1.0, show_default=True, help="2 is twice as fast.")
@click.option("--noise-scale", type=Finite(), help="0 speaks the mean; 0.5, and for v3 and v4 1, without it.")
@click.option("--steps", type=int, help="v3, v4: steps of flow matching (32, 8); fewer are faster.")
@click.option("--solver", default="euler", show_default=True, help="v3, v4: euler, adams or midpoint (docs/v3-v4.md).")
@click.option("--cfg-rate", type=Finite(), default=0.0, help="v3, v4: guidance; any but 0 doubles the work.")
@click.option("--top-k", type=int, help="Sample among that many codes.")
@click.option("--top-p", type=Finite(), help="Sample among codes of that much probability.")
@click.option("--temperature", type=Finite(), help="Below 1 is more regular.")
@click.option("--repetition-penalty", type=Finite(), help="Above 1 avoids codes that were used.")
@click.option("--greedy", is_flag=True, help="Always the most likely code.")
@click.option("--no-prompt", is_flag=True, help="Do not lead with the voice's own prompt.")
@click.option("--max-tokens", type=int, help="Stop after that many codes (25 are a second).")
@click.option("--retry", is_flag=True, help="Say a sentence that runs away once more, with another seed.")
@click.option("--threads", type=click.IntRange(1, 256), help="Processor cores to use.")
@_key
@_any_machine
@click.option("--force", is_flag=True, help="Replace outputs that exist.")
@shows_progress
def say(
    artifact: Path,
    text: str | None,
    text_file: Path | None,
    phones: str | None,
    pack: Path | None,
    phrase: str | None,
    slots: tuple[str, ...],
    out: Path,
    force: bool,
    threads: int | None,
    progress: Progress,
    **options: Any,
) -> None:
    """Speak TEXT, one sentence given as phones, or a phrase of a pack, into a sound file.

    TEXT is read in the voice's language. English and Mandarin are built in; Japanese, Korean and Cantonese are the
    extras ja, ko and yue. Its sentences are spoken one after the other. It has at most 10,000 characters, and 200,000
    with --text-file. What does not end, repeats itself, or is far too long or short is named on standard error.

    \b
    Examples:
      gsvexport say dist/demo-x86-64.gsv "Good morning. It is 7:30." -o morning.wav
      gsvexport say dist/demo-x86-64.gsv --phones "G UH1 D M AO1 R N IH0 NG ." -o morning.wav
      gsvexport say dist/demo-x86-64.gsv "Good morning." --stream -o - | aplay -f S16_LE -r 32000
    """
    from gsvexport.cli.speak import chosen_phrase, speak, text_of

    text = text_of(text, text_file)
    chosen = chosen_phrase(pack, phrase, slots, text if text is not None else phones)
    told = speak(artifact, text, phones, out, phrase=chosen, force=force, threads=threads, progress=progress, **options)
    echo(told, err=str(out) == "-")


# What `--sweep` has no use for.
_NOT_SWEPT = ("baseline", "against", "against_timeout", "runs", "tokens", "phones")


@click.command()
@click.argument("artifact", type=_PATH)
@click.option("--baseline", type=_PATH, metavar="SOURCE_OR_ARTIFACT", help="Measure it in turn, and print ratios.")
@click.option("--threads", type=click.IntRange(1, 256), default=2, show_default=True, help="Processor cores to use.")
@click.option("--runs", type=int, default=5, show_default=True, help="Times that each is measured.")
@click.option("--tokens", type=int, default=100, show_default=True, help="Codes to speak (25 are a second).")
@click.option("--prompt", type=int, default=125, show_default=True, help="Codes of the prompt before them.")
@click.option("--phones", type=int, default=70, show_default=True, help="Phones of prompt and sentence together.")
@click.option("--against", metavar="COMMAND", help="Another program, measured in turn; docs/bench.md says how.")
@click.option("--against-timeout", type=Finite(), default=600.0, show_default=True, help="Seconds for its answer.")
@click.option("--sweep", is_flag=True, help="Time and memory of 50 to 1000 codes, 20 to 400 phones, 1 to 8 sentences.")
@click.option("--html", type=_PATH, metavar="FILE", help="With --sweep: charts, too, as one page.")
@click.option("--force", is_flag=True, help="Replace FILE.")
@click.option("--json", "as_json", is_flag=True, help="The measurements as JSON.")
@_key
@_any_machine
@shows_progress
def bench(
    artifact: Path,
    baseline: Path | None,
    sweep: bool,
    html: Path | None,
    force: bool,
    as_json: bool,
    progress: Progress,
    **options: Any,
) -> None:
    """Measure how fast and how large ARTIFACT (or a source) is on this machine.

    Load time, prefill, step, acoustic, vocoder, real-time factor, memory and sizes, beside the memory bandwidth and the
    matrix products that the machine reaches. Codes and lengths are fixed; what is said does not matter.

    \b
    Examples:
      gsvexport bench dist/alice-x86-64-int8.gsv --baseline src
      gsvexport bench dist/alice-x86-64-int8.gsv --against 'python other.py'
      gsvexport bench dist/alice-x86-64-int8.gsv --sweep --html growth.html
    """
    from gsvexport.bench import bench as measure
    from gsvexport.files import canonical_json

    if sweep:
        from gsvexport.cli.sweep import swept

        context = click.get_current_context()
        given = [name for name in _NOT_SWEPT if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if given:
            what = "--sweep chooses its own work, and measures one voice alone, once"
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(what, found=names, fix="leave that out, or --sweep")
        echo(swept(artifact, html, force=force, as_json=as_json, progress=progress, **options), nl=False)
        return
    if html is not None:
        raise InputError("--html is for --sweep", fix="add --sweep, or leave it out")
    found = measure(artifact, baseline, progress=progress, **options)
    echo(canonical_json(found.to_json()) if as_json else found.table(), nl=False)
