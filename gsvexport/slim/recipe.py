"""What is asked for: a recipe, built in or in a file of one's own; strictly read, every problem with its line."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gsvexport.errors import InputError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.target.tables import LARGEST, Layers, Reader, key, key_lines, nearest
from gsvexport.untrusted.reading import read_text, why

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "recipes"
BITS = (8,)  # that a vocoder can learn to be rounded to
WEIGHT_BITS = (2, 4)  # that the weights of T2S can
SIGNIFICANT_BITS = (2, 3, 4, 5, 6, 7)
# What may follow a recipe's name and a "+", each once.
SUFFIXES = ("int8", "w2", "w4", "vocoder-w2", "vocoder-w4")
# What each training depends on, beside data and seed. The last ones go on where another one ended.
TRAININGS = {
    "t2s": ("t2s", "sparse", "train.t2s_steps", "train.t2s_rate", "train.t2s_batch", "train.features"),
    "prior": ("sovits.filter", "sparse", "train.prior_steps", "train.prior_rate", "train.vocoder_batch"),
    "vocoder": (
        "sovits.channels",
        "sparse",
        "train.vocoder_steps",
        "train.vocoder_rate",
        "train.vocoder_batch",
        "train.features",
    ),
}
TRAININGS["weights"] = (*TRAININGS["t2s"], "weights.bits", "train.weight_steps", "train.weight_rate")
TRAININGS["vocoder-weights"] = (*TRAININGS["vocoder"], "weights.vocoder", "train.weight_steps")
TRAININGS["integers"] = (
    *TRAININGS["vocoder"],
    "integers",
    "train.integer_steps",
    "train.integer_rate",
    "train.integer_batch",
)


@dataclass(frozen=True)
class T2S:
    """What stays of the GPT: up to 1 a share, above that a number of layers or channels."""

    layers: float = key(float, default=1.0)
    width: float = key(float, default=1.0)


@dataclass(frozen=True)
class Sovits:
    """What stays of SoVITS: the vocoder's channels (all stages follow the first), and the text encoder's inner rows."""

    channels: float = key(float, default=1.0)
    filter: float = key(float, default=1.0)


@dataclass(frozen=True)
class Sparse:
    """The share of every large matrix that becomes 0."""

    share: float = key(float, default=0.0)


@dataclass(frozen=True)
class Integers:
    """The bits of integers to which the vocoder learns to be rounded; 0 for none. `stages` counts its upsamplings from
    the first on: what follows the last of them stays float."""

    bits: int = key(int, default=0)
    stages: int = key(int, low=1, high=16, default=16)


@dataclass(frozen=True)
class Weights:
    """The bits of blocks to which T2S learns to have its weights rounded, and the vocoder; and the significant bits of
    every matrix as it is written, without learning. 0 for none."""

    bits: int = key(int, default=0)
    vocoder: int = key(int, default=0)
    significant: int = key(int, default=0)


@dataclass(frozen=True)
class Data:
    """How much the teacher says: texts to learn from, more of which only the codes are written where T2S is to learn,
    texts of a held-out part, and phones of one at most."""

    texts: int = key(int, low=1, high=100_000, default=600)
    codes: int = key(int, low=0, high=100_000, default=3000)
    held_out: int = key(int, low=1, high=1000, default=16)
    longest: int = key(int, low=10, high=400, default=150, unit="phones")


@dataclass(frozen=True)
class Train:
    """Steps and rates of the trainings. `features` weighs the differences of inner layers, 0 leaves them out."""

    t2s_steps: int = key(int, low=0, high=10_000_000, default=2000)
    vocoder_steps: int = key(int, low=0, high=10_000_000, default=3000)
    prior_steps: int = key(int, low=0, high=10_000_000, default=1000)
    t2s_rate: float = key(float, low=1e-7, high=0.1, default=3e-4)
    vocoder_rate: float = key(float, low=1e-7, high=0.1, default=5e-4)
    prior_rate: float = key(float, low=1e-7, high=0.1, default=5e-4)
    t2s_batch: int = key(int, low=1, high=1024, default=8)
    integer_steps: int = key(int, low=0, high=10_000_000, default=2000)
    integer_batch: int = key(int, low=1, high=1024, default=1)
    integer_rate: float = key(float, low=1e-7, high=0.1, default=5e-5)
    weight_steps: int = key(int, low=0, high=10_000_000, default=500)
    weight_rate: float = key(float, low=1e-7, high=0.1, default=3e-5)
    vocoder_batch: int = key(int, low=1, high=1024, default=4)
    features: float = key(float, low=0, high=100, default=0.5)


@dataclass(frozen=True)
class Recipe:
    """A whole recipe."""

    name: str
    title: str
    t2s: T2S
    sovits: Sovits
    sparse: Sparse
    integers: Integers
    weights: Weights
    data: Data
    train: Train

    def scaled(self, factor: float) -> Recipe:
        """The same with another number of steps and texts, at least one of each that there is."""

        def part(count: int) -> int:
            return count if count == 0 else max(1, round(count * factor))

        train = replace(
            self.train,
            t2s_steps=part(self.train.t2s_steps),
            vocoder_steps=part(self.train.vocoder_steps),
            prior_steps=part(self.train.prior_steps),
            integer_steps=part(self.train.integer_steps),
            weight_steps=part(self.train.weight_steps),
        )
        data = replace(self.data, texts=part(self.data.texts), codes=part(self.data.codes))
        return replace(self, train=train, data=data)

    @property
    def teaches_t2s(self) -> bool:
        """Whether T2S is to learn, so that it needs codes to learn from."""
        return self.t2s != T2S() or bool(self.sparse.share or self.weights.bits)

    @property
    def rounds(self) -> bool:
        """Whether something is rounded, or learns to be."""
        return bool(self.integers.bits) or self.weights != Weights()

    @property
    def digest(self) -> str:
        """SHA-256 over what it asks for, not over what it is called."""
        return sha256_bytes(canonical_json({**asdict(self), "name": "", "title": ""}).encode())

    def asked(self, training: str) -> dict[str, object]:
        """What one of `TRAININGS` depends on. Recipes in which that is equal share it."""
        values = asdict(self)
        found = {}
        for one in TRAININGS[training]:
            table, _, last = one.partition(".")
            found[one] = values[table][last] if last else values[table]
        return found


_PARTS: dict[str, type[Any]] = {
    "t2s": T2S,
    "sovits": Sovits,
    "sparse": Sparse,
    "integers": Integers,
    "weights": Weights,
    "data": Data,
    "train": Train,
}


def names() -> list[str]:
    """The built-in recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_recipe(name: str) -> Recipe:
    """A built-in recipe by its name, or a TOML file; with "+int8" behind it, the same with integers at its end; with
    "+w4" or "+w2", with weights of T2S of so many bits; with "+vocoder-w4" or "+vocoder-w2", of the vocoder.

    Raises:
        InputError: no such recipe or suffix; or every unknown key and wrong value, each with its line.
    """
    base, plus, suffix = name.rpartition("+")
    if not plus or Path(name).is_file():
        return _read(name)
    if suffix not in SUFFIXES:
        known = [f"+{one}" for one in SUFFIXES]
        raise InputError(f"a recipe cannot end in '+{suffix}'{nearest('+' + suffix, known)}", limit=", ".join(known))
    found = read_recipe(base)
    found = replace(found, name=f"{found.name}+{suffix}")
    which = "vocoder" if suffix.startswith("vocoder") else "bits"
    if found.integers.bits if suffix == "int8" else getattr(found.weights, which):
        raise InputError(f"recipe '{found.name}' asks for one kind of rounding twice", fix=f"leave out +{suffix}")
    if suffix == "int8":
        found = replace(found, integers=_read("int8").integers)
    else:
        found = replace(found, weights=replace(found.weights, **{which: int(suffix[-1])}))
    if found.integers.bits and found.weights.vocoder:
        raise InputError(
            f"recipe '{found.name}' asks a vocoder to learn two kinds of rounding",
            fix="take either +int8 or +vocoder-w4",
        )
    if found.weights.significant:
        raise InputError(
            f"recipe '{found.name}' would round once more what learned to be rounded",
            fix=f"leave out +{suffix}, or 'significant' in the file",
        )
    return found


def _read(name: str) -> Recipe:
    path = FOLDER / f"{name}.toml" if name in names() else Path(name)
    if path.suffix != ".toml" or not path.is_file():
        allowed = f"{', '.join(names())}, each also with {', '.join('+' + one for one in SUFFIXES)}, or a .toml file"
        raise InputError(f"there is no recipe '{name}'{nearest(name, names())}", limit=allowed)
    try:
        text = read_text(path, LARGEST, mark=True)
        values = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as TOML: {why(error)}", fix="correct it") from error
    problems: list[str] = []
    lines = {one: f"{path}:{number}" for one, number in key_lines(text).items()}
    reader = Reader(Layers(values, lines), path, problems)
    reader.unknown("", values, ("title", *_PARTS))
    title = values.get("title", path.stem)
    if not isinstance(title, str):
        reader.problem("title", f"'title' takes a string, not {title!r}")
    parts = {one: reader.table(kind, one) for one, kind in _PARTS.items()}
    if not problems:
        _refuse_all(reader, parts)
    if problems:
        raise InputError(f"{path} is not a recipe", problems=problems, fix="see docs/slim.md")
    return Recipe(path.stem, title, **parts)


def _refuse_all(reader: Reader, parts: dict[str, Any]) -> None:
    """Note what would leave nothing of a part."""
    for one in ("t2s.layers", "t2s.width", "sovits.channels", "sovits.filter"):
        table, last = one.split(".")
        value = getattr(parts[table], last)
        if value <= 0:
            reader.problem(one, f"'{last}' = {value:g} leaves nothing; it is the share that stays, above 0 and up to 1")
        elif value > 1 and (table != "t2s" or value != int(value)):
            allowed = "a share up to 1" + (" or a whole number above it" if table == "t2s" else "")
            reader.problem(one, f"'{last}' = {value:g} is not {allowed}")
    if not 0 <= parts["sparse"].share < 1:
        reader.problem("sparse.share", f"'share' = {parts['sparse'].share:g} leaves nothing; it is below 1")
    for one in ("bits", "vocoder"):
        if (bits := getattr(parts["weights"], one)) not in (0, *WEIGHT_BITS):
            reader.problem(f"weights.{one}", f"'{one}' = {bits} is not 2 or 4, or 0 for none")
    if parts["weights"].vocoder and parts["integers"].bits:
        reader.problem("weights.vocoder", "a vocoder that learns 8-bit integers cannot have blocks of fewer bits, too")
    if (bits := parts["weights"].significant) not in (0, *SIGNIFICANT_BITS):
        reader.problem("weights.significant", f"'significant' = {bits} is not 2 to 7, or 0 for all of them")
    if parts["weights"].significant and (parts["weights"].bits or parts["weights"].vocoder or parts["integers"].bits):
        reader.problem("weights.significant", "what learned to be rounded would be rounded once more, and otherwise")
    if (bits := parts["integers"].bits) not in (0, *BITS):
        reader.problem("integers.bits", f"'bits' = {bits} is not 8, or 0 for none: what the vocoder runs on has 8")
