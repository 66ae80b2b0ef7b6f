"""Letter-to-sound rules for words that no dictionary has: names, brands, slips of the pen.

At each place of a word the first rule applies whose letters stand there and whose neighbours fit. The stress is on a
word's first syllable, or where its ending asks for it.
"""

from __future__ import annotations

import functools
import re

VOWELS = frozenset(["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"])

# before <letters> after = phones. The neighbours are regular expressions; V is a vowel letter, C any other, and a long
# vowel stands before E: one consonant, an e, and the word's end.
_TABLE = """
<aigh> = EY; <augh> = AO; <air> = EH R; <are> $ = EH R; .C <able> $ = AH B AH L; V.* <age> s?$ = IH JH
<a> nge = EY; <a> ste$ = EY; <ai> = EY; <ay> = EY; <au> = AO; <aw> = AO; <a> ll$ = AO; <al> k = AO; <arr> = AE R
<ar> (C|$) = AA R; <ae> = IY; . <a> $ = AH; <a> E = EY; <a> tion = EY; w <a> (l|n|s|t) = AA; <a> = AE
<bb> = B; m <b> $ =; <b> = B
<ch> (r|l) = K; <ch> = CH; <ck> = K; <cc> (e|i|y) = K S; <cc> = K; <ci> (al|ous|an|en) = SH; <c> (e|i|y) = S; <c> = K
<dge> = JH; <dg> (e|i|y) = JH; <dd> = D; <d> = D
<eau> = OW; <eigh> = EY; <eer> = IH R; <ear> = IH R; <ee> = IY; <ea> = IY; <ei> = IY; <ey> $ = IY; <ey> = EY
<ew> = UW; <eu> = Y UW; <err> = EH R; <ere> $ = IH R; <er> (C|$) = ER; V.* <e> $ =; <e> $ = IY
VC <e> (ment|ful|less|ly|ness|some) =; <e> E = IY; <eo> = IY OW; V.* <e> n$ = AH; <e> = EH
<ff> = F; <f> = F
V <gh> $ =; V <gh> t =; <gh> = G; <gn> $ = N; <gg> = G; ^ <g> n =; <gu> (e|i) = G; <g> (e|i|y) = JH; <g> = G
<h> V = HH; <h> =
<igh> = AY; <ique> $ = IY K; <ism> $ = IH Z AH M; ^C+ <ie> = AY; <ier> $ = IY ER; <ie> = IY; <ire> $ = AY ER
<ir> (C|$) = ER; <ing> $ = IH NG; <i> (nd|ld|gn)$ = AY; <i> z(e|ed|es|ing|er)$ = AY; <ious> $ = IY AH S; <ia> = IY AH
<io> = IY OW; <iu> = IY AH; <i> $ = IY; <i> E = AY; <i> = IH
<j> = JH
^ <k> n =; <kk> = K; <k> = K
C <le> $ = AH L; <ll> = L; <l> = L
<mm> = M; <mn> $ = M; <m> = M
<nn> = N; <ng> (a|o|u|l|r) = NG G; <ng> (e|i|y) = N JH; <ng> = NG; <n> (k|x|q) = NG; <n> = N
<ough> = AO; <ould> = UH D; <ook> = UH K; <oo> = UW; <oa> = OW; <oe> $ = OW; <oi> = OY; <oy> = OY; <ous> $ = AH S
<our> = AO R; <ou> = AW; <ow> (n|l|d) = AW; <ow> = OW; <orr> = AO R; <ore> $ = AO R; V.* <or> $ = ER; <or> = AO R
<o> l(d|l|t) = OW; <o> st$ = OW; V.* <o> n$ = AH; <o> $ = OW; <o> CV = OW; <o> = AA
<ph> = F; <pp> = P; ^ <p> (s|n) =; <p> = P
<que> $ = K; <qu> = K W; <q> = K
<rh> = R; <rr> = R; <r> = R
<sch> = SH; <sh> = SH; <ssion> = SH AH N; V <sion> = ZH AH N; <sion> = SH AH N; <ss> = S; <sc> (e|i|y) = S
<s> m$ = Z; V <s> (e|i) = Z; <s> = S
<tion> = SH AH N; <ti> (a|ou|en) = SH; <tch> = CH; <th> = TH; <ture> s?$ = CH ER; <tt> = T; <tz> = T S; <t> = T
<uy> = AY; <ue> $ = UW; <ui> = UW; <ure> $ = Y UH R; <ur> (C|$) = ER; (^|b|c|f|g|h|k|m|p|v) <u> CV = Y UW
<u> CV = UW; <u> $ = UW; <u> = AH
<vv> = V; <v> = V
<wh> = W; ^ <w> r =; <w> V = W; <w> =
^ <x> = Z; <x> = K S
<y> V = Y; ^C+ <y> $ = AY; <y> $ = IY; <y> E = AY; <y> = IH
<zz> = Z; <z> = Z
<'> =
"""
_WEAK = {"AE": "AH", "AA": "AH", "EH": "AH", "AH": "AH"}  # what becomes of a vowel without stress
# the stress lies on the syllable before these endings, and two before those
_BEFORE = re.compile(r"(tion|sion|cian|ic|ics|ia|ial|ian|ious|eous|ive|ish)$")
_TWO_BEFORE = re.compile(r"(ity|ogy|aphy|omy|ical|ify|etry|ular|itude)$")
_FOREIGN = re.compile(r"[^aeiouy][aio]s?$")  # "Barolo", "Yamaha"


@functools.cache
def _rules() -> dict[str, list[tuple[re.Pattern[str], str, re.Pattern[str], tuple[str, ...]]]]:
    """For each first letter: what stands before, the letters, what comes after, and their phones."""
    rules: dict[str, list[tuple[re.Pattern[str], str, re.Pattern[str], tuple[str, ...]]]] = {}
    for rule in re.split(r";|\n", _TABLE.strip()):
        pattern, _, phones = rule.partition("=")
        before, letters, after = re.split("[<>]", pattern.replace(" ", ""))
        for name, means in (("E", "Ce[sdr]?s?$"), ("C", "[^aeiouy']"), ("V", "[aeiouy]")):
            before, after = before.replace(name, means), after.replace(name, means)
        entry = re.compile(f"(?:{before})$"), letters, re.compile(after), tuple(phones.split())
        rules.setdefault(letters[0], []).append(entry)
    return rules


def sound_out(word: str) -> tuple[str, ...]:
    """The phones, with stress, of any word of the letters a to z and apostrophes; nothing for a word of silent ones."""
    phones: list[str] = []
    place = 0
    while place < len(word):
        for before, letters, after, sounds in _rules()[word[place]]:
            end = place + len(letters)
            if word.startswith(letters, place) and after.match(word, end) and before.search(word[:place]):
                phones += sounds
                place = end
                break
    return _stressed(word, phones)


def _stressed(word: str, phones: list[str]) -> tuple[str, ...]:
    places = [place for place, phone in enumerate(phones) if phone in VOWELS]
    main = 0
    if len(places) > 1 and _BEFORE.search(word):
        main = len(places) - 2
    elif len(places) > 2:
        main = len(places) - (2 if _FOREIGN.search(word) and not _TWO_BEFORE.search(word) else 3)
    for number, place in enumerate(places):
        phone = phones[place]
        phones[place] = f"{phone}1" if number == main else f"{_WEAK.get(phone, phone)}0"
    return tuple(phones)
