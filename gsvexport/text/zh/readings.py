"""Characters with several readings, where a word alone does not decide: by part of speech and by the neighbours.

Only rules that hold nearly always stand here; everything else is what pypinyin's phrases say.
"""

from __future__ import annotations

from collections.abc import Sequence

Neighbour = tuple[str, str]  # a word and its part of speech, both empty at an end

PHRASES = {  # read otherwise, or not known as phrases
    "还给": "huan2 gei3",
    "得去": "dei3 qu4",
    "还要": "hai2 yao4",
    "长得": "zhang3 de5",
    "一行": "yi1 hang2",
    "重做": "chong2 zuo4",
    "还有": "hai2 you3",
    "薄荷": "bo4 he5",
    "数一数": "shu3 yi1 shu3",
    "睡着": "shui4 zhao2",
    "嗯": "en5",
}
_COUNTING = frozenset("一二两三四五六七八九十百千万几每这那哪半第数")
_DEGREE = frozenset("很太最更多这么那么真好不")


def corrected(words: Sequence[Neighbour]) -> dict[int, str]:
    """Place in the text → syllable, for characters that the lexicon reads otherwise; `words` with parts of speech."""
    found: dict[int, str] = {}
    place = 0
    for index, (word, kind) in enumerate(words):
        before = words[index - 1] if index else ("", "")
        after = words[index + 1] if index + 1 < len(words) else ("", "")
        if word in PHRASES:
            found |= dict(enumerate(PHRASES[word].split(" "), place))
        elif syllable := reading(word, kind, before, after):
            found[place] = syllable
        elif kind == "m" and len(word) > 1 and (syllable := reading(word[-1], "q", (word[:-1], "m"), after)):
            found[place + len(word) - 1] = syllable  # 三只: a number and what is counted, as one word
        place += len(word)
    return found


def reading(word: str, kind: str, before: Neighbour, after: Neighbour) -> str | None:
    """The syllable of a one-character word, or None where its common reading holds."""
    if len(word) > 1:
        return None
    left, right = before[0][-1:], after[0][:1]
    verb = after[1][:1] == "v"
    if word == "地":
        return "de5" if kind == "uv" or (before[1][:1] in "adz" and before[0] and verb) else None
    if word == "得":
        if before[1][:1] in ("v", "a") or kind == "ud":
            return "de5"
        return "dei3" if verb or not after[0] else None
    if word == "过":
        return "guo5" if kind == "ug" or (before[1][:1] == "v" and kind != "v") else None
    if word == "长":
        return "zhang3" if right and right in "了得出着大满高" and left not in _DEGREE else "chang2"
    if word == "还":
        return "huan2" if (right and right in "给钱书债清了") or (left == "要" and not right) else None
    if word == "为":
        return "wei2" if kind == "v" else None
    if word == "只":
        return "zhi1" if kind == "q" or (left and left in _COUNTING) else None
    if word == "行":
        return "hang2" if left and left in _COUNTING else None
    if word == "种":
        return "zhong4" if right and right in "了着树花菜地满下" and left not in _COUNTING else None
    if word == "重":
        return "chong2" if verb or (left and left in "一两三四五几双") else None
    if word == "数":
        return "shu3" if (right and right in "了着到一不") or left == "来" else None
    if word == "干":
        return "gan1" if kind == "a" or ((right and right in "了透的燥") and left not in "能想在要") else None
    if word == "教":
        return "jiao1" if kind == "v" or after[1][:1] in ("r", "n") else None
    if word == "倒":
        return "dao4" if right and right in "水茶酒出掉是" else "dao3" if right and right in "在下地" else None
    if word == "觉":
        return "jiao4" if left and left in "一个睡" else None
    return None
