"""Words that are written alike and spoken differently, told apart by the words beside them.

A word is a verb after "to", after an auxiliary or a subject, or before an object; it is a noun or an adjective after an
article, a possessive, a preposition or an adjective; else it has the reading that is more common. What no neighbour can
tell ("I read it") stays a guess.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Phones = tuple[str, ...]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_VERB_AFTER = _set(
    "to will would can could should must may might shall cannot can't couldn't won't wouldn't shouldn't "
    "mustn't do don't doesn't didn't did let's please i you we they who i'll you'll we'll they'll he'll she'll "
    "it'll i'd you'd we'd they'd helps help helped let"
)
_NOUN_AFTER = _set(
    "a an the this that these those my your his her its our their whose some any no each every another one two "
    "three of in for with by from at on under into as without per between first second last next new old own "
    "same such more less most good great high low many few much both other only world free medical public "
    "further"
)
_ADVERBS = _set("also often always never still now then not just even further actively")
_OBJECTS = _set(
    "the a an this these those my your his her its our their it them us me him you everything nothing all each "
    "both another any some"
)
_BE = _set("is are was were be been being am isn't aren't wasn't weren't")
_HAVE = _set("has have had having i've you've we've they've hasn't haven't hadn't")
_PLACES = _set("in with here there near alone together under among off on at for by next where")
_ADJECTIVE = ("al", "ive", "ous", "ic", "ful", "less", "ent", "ant", "ary", "able", "ible", "ional", "'s", "s'")
_METALS = _set("tin zinc copper silver iron mercury arsenic gold nickel cadmium metal metals molten")
_OF_LEAD = _set("pipe pipes paint poisoning pencil acid content levels oxide glass mine mines ore shot is")
_TINY = "amount amounts detail details quantities particles differences traces changes quantity"

# word: as a noun or an adjective; as a verb; "v" where the verb is the more common
_TABLE = """
abuse: AH0 B Y UW1 S; AH0 B Y UW1 Z
advocate: AE1 D V AH0 K AH0 T; AE1 D V AH0 K EY2 T
alternate: AO1 L T ER0 N AH0 T; AO1 L T ER0 N EY2 T
appropriate: AH0 P R OW1 P R IY0 AH0 T; AH0 P R OW1 P R IY0 EY2 T
associate: AH0 S OW1 S IY0 AH0 T; AH0 S OW1 S IY0 EY2 T
attribute: AE1 T R AH0 B Y UW2 T; AH0 T R IH1 B Y UW2 T
close: K L OW1 S; K L OW1 Z
combine: K AA1 M B AY0 N; K AH0 M B AY1 N; v
compound: K AA1 M P AW0 N D; K AH0 M P AW1 N D
conduct: K AA1 N D AH0 K T; K AH0 N D AH1 K T
conflict: K AA1 N F L IH0 K T; K AH0 N F L IH1 K T
construct: K AA1 N S T R AH0 K T; K AH0 N S T R AH1 K T; v
content: K AA1 N T EH0 N T; K AH0 N T EH1 N T
contest: K AA1 N T EH0 S T; K AH0 N T EH1 S T
contract: K AA1 N T R AE2 K T; K AH0 N T R AE1 K T
contrast: K AA1 N T R AE0 S T; K AH0 N T R AE1 S T
convert: K AA1 N V ER0 T; K AH0 N V ER1 T; v
coordinate: K OW0 AO1 R D AH0 N AH0 T; K OW0 AO1 R D AH0 N EY2 T; v
decrease: D IY1 K R IY2 S; D IH0 K R IY1 S
delegate: D EH1 L AH0 G AH0 T; D EH1 L AH0 G EY2 T
deliberate: D IH0 L IH1 B ER0 AH0 T; D IH0 L IH1 B ER0 EY2 T
desert: D EH1 Z ER0 T; D IH0 Z ER1 T
discount: D IH1 S K AW0 N T; D IH0 S K AW1 N T
duplicate: D UW1 P L AH0 K AH0 T; D UW1 P L AH0 K EY2 T
elaborate: IH0 L AE1 B R AH0 T; IH0 L AE1 B ER0 EY2 T
estimate: EH1 S T AH0 M AH0 T; EH1 S T AH0 M EY2 T
excuse: IH0 K S K Y UW1 S; IH0 K S K Y UW1 Z
export: EH1 K S P AO0 R T; IH0 K S P AO1 R T
extract: EH1 K S T R AE2 K T; IH0 K S T R AE1 K T
graduate: G R AE1 JH AH0 W AH0 T; G R AE1 JH AH0 W EY2 T
house: HH AW1 S; HH AW1 Z
impact: IH1 M P AE0 K T; IH2 M P AE1 K T
import: IH1 M P AO2 R T; IH2 M P AO1 R T
increase: IH1 N K R IY2 S; IH2 N K R IY1 S
insert: IH1 N S ER2 T; IH2 N S ER1 T; v
insult: IH1 N S AH2 L T; IH2 N S AH1 L T
moderate: M AA1 D ER0 AH0 T; M AA1 D ER0 EY2 T
object: AA1 B JH EH0 K T; AH0 B JH EH1 K T
perfect: P ER1 F IH2 K T; P ER0 F EH1 K T
permit: P ER1 M IH2 T; P ER0 M IH1 T
present: P R EH1 Z AH0 N T; P R IY0 Z EH1 N T
produce: P R OW1 D UW0 S; P R AH0 D UW1 S; v
progress: P R AA1 G R EH2 S; P R AH0 G R EH1 S
project: P R AA1 JH EH0 K T; P R AH0 JH EH1 K T
protest: P R OW1 T EH2 S T; P R AH0 T EH1 S T
rebel: R EH1 B AH0 L; R IH0 B EH1 L
record: R EH1 K ER0 D; R AH0 K AO1 R D
refund: R IY1 F AH0 N D; R IH0 F AH1 N D
reject: R IY1 JH EH0 K T; R IH0 JH EH1 K T; v
separate: S EH1 P ER0 AH0 T; S EH1 P ER0 EY2 T
subject: S AH1 B JH IH0 K T; S AH0 B JH EH1 K T
survey: S ER1 V EY2; S ER0 V EY1
suspect: S AH1 S P EH2 K T; S AH0 S P EH1 K T
transfer: T R AE1 N S F ER0; T R AE0 N S F ER1
transport: T R AE1 N S P AO0 R T; T R AE0 N S P AO1 R T
use: Y UW1 S; Y UW1 Z
wind: W IH1 N D; W AY1 N D
"""


@functools.cache
def _pairs() -> dict[str, tuple[Phones, Phones, bool]]:
    found = {}
    for line in _TABLE.strip().splitlines():
        word, _, rest = line.partition(": ")
        noun, verb, *common = rest.split("; ")
        found[word] = (tuple(noun.split()), tuple(verb.split()), bool(common))
    return found


def heteronym(tokens: Sequence[str], place: int) -> Phones | None:
    """The phones of the word at `place` of a text's words and signs, or None for one that is not in the tables."""
    word = tokens[place]
    if word in _pairs():
        noun, verb, usually = _pairs()[word]
        found = _verb(tokens, place)
        return verb if (usually if found is None else found) else noun
    if word.removesuffix("s") in _pairs():
        noun, verb, _ = _pairs()[word.removesuffix("s")]
        before, after = _before(tokens, place), _at(tokens, place + 1)
        subject = before in ("he", "she", "it", "who", "which", "that")
        return with_s(verb if subject or (after in _OBJECTS and before not in _NOUN_AFTER) else noun)
    rule = _RULES.get(word)
    return tuple(rule(tokens, place).split()) if rule else None


def with_s(phones: Phones) -> Phones:
    """The ending -s after these phones."""
    if phones[-1] in ("S", "Z", "SH", "ZH", "CH", "JH"):
        return (*phones, "AH0", "Z")
    return (*phones, "S" if phones[-1] in ("P", "T", "K", "F", "TH") else "Z")


def _at(tokens: Sequence[str], place: int) -> str:
    return tokens[place] if 0 <= place < len(tokens) else ""


def _before(tokens: Sequence[str], place: int) -> str:
    """The word before, adverbs left out."""
    place -= 1
    while _at(tokens, place) in _ADVERBS or (len(_at(tokens, place)) > 4 and _at(tokens, place).endswith("ly")):
        place -= 1
    return _at(tokens, place)


def _verb(tokens: Sequence[str], place: int) -> bool | None:
    """Whether a word that can be both is a verb; None where its neighbours do not tell."""
    word, before, after = tokens[place], _before(tokens, place), _at(tokens, place + 1)
    if word == "close" and after in ("to", "by"):
        return False
    if word == "content":
        return before in _BE | {"feel", "felt"}
    if before in _VERB_AFTER and not (before == "to" and after in ("of", ",", ".")):
        return True
    if before in _NOUN_AFTER or before.endswith(_ADJECTIVE) or before in _BE:
        return False
    if after == "of":
        return False
    if after in _OBJECTS and (before or word not in ("present", "subject")):
        return True
    return None


def _read(tokens: Sequence[str], place: int) -> str:
    before = _before(tokens, place)
    past = before in _BE | _HAVE or before in ("he", "she", "it", "who", "i", "you", "we", "they")
    if before in ("i", "you", "we", "they") and _at(tokens, place - 2) not in _HAVE:
        past = bool({"yesterday", "ago", "last", "already", "once"}.intersection(tokens))
    return "R EH1 D" if past else "R IY1 D"


def _live(tokens: Sequence[str], place: int) -> str:
    before, after = _before(tokens, place), _at(tokens, place + 1)
    people = before in ("people", "children", "men", "women", "and") or (
        before.endswith("s") and not before.endswith(_ADJECTIVE) and before not in _NOUN_AFTER
    )
    return "L IH1 V" if before in _VERB_AFTER or (people and after in _PLACES) else "L AY1 V"


def _lives(tokens: Sequence[str], place: int) -> str:
    before, after = _before(tokens, place), _at(tokens, place + 1)
    noun = before in _NOUN_AFTER or before.endswith(_ADJECTIVE) or after not in _PLACES
    return "L AY1 V Z" if noun and before not in ("he", "she", "it", "who") else "L IH1 V Z"


def _lead(tokens: Sequence[str], place: int) -> str:
    before, after = _before(tokens, place), _at(tokens, place + 1)
    sentence = tokens[max(0, place - 12) : place + 12]
    metal = after in _OF_LEAD or before in ("contain", "contains", "containing", "molten", "unleaded")
    metal = metal or (before in ("of", "and", ",", "sometimes", "with") and not _METALS.isdisjoint(sentence))
    return "L EH1 D" if metal and before not in _VERB_AFTER else "L IY1 D"


def _used(tokens: Sequence[str], place: int) -> str:
    habit = _at(tokens, place + 1) == "to" and (_before(tokens, place) not in _BE | {"been"})
    return "Y UW1 S T" if habit else "Y UW1 Z D"


@dataclass(frozen=True)
class Near:
    """The reading `there` before one of the words `after` or behind one of `before`, else `otherwise`."""

    after: frozenset[str]
    there: str
    otherwise: str
    before: frozenset[str]

    def __call__(self, tokens: Sequence[str], place: int) -> str:
        """The phones of the word at `place`."""
        near = _at(tokens, place + 1) in self.after or _at(tokens, place - 1) in self.before
        return self.there if near else self.otherwise


def _near(words: str, there: str, otherwise: str, *, back: str = "") -> Near:
    return Near(_set(words), there, otherwise, _set(back))


_RULES: dict[str, Callable[[Sequence[str], int], str]] = {
    "read": _read,
    "live": _live,
    "lives": _lives,
    "lead": _lead,
    "used": _used,
    "wound": _near("up around down", "W AW1 N D", "W UW1 N D"),
    "bass": _near("fish fishing", "B AE1 S", "B EY1 S", back="sea striped largemouth smallmouth"),
    "dove": _near("into in", "D OW1 V", "D AH1 V", back="he she they i"),
    "bow": _near("tie ties and", "B OW1", "B AW1", back="violin cross"),
    "minute": _near(_TINY, "M AY0 N UW1 T", "M IH1 N AH0 T"),
    "tear": _near("gas duct ducts drop drops", "T IH1 R", "T EH1 R", back="single"),
}
