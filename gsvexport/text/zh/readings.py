"""Characters with several readings, where a word alone does not decide: by part of speech and by the neighbours.

Only rules that hold nearly always stand here; everything else is what pypinyin's phrases say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Neighbour = tuple[str, str]  # a word and its part of speech, both empty at an end

PHRASES = {  # read otherwise, or not known as phrases
    "还给": "huan2 gei3",
    "得去": "dei3 qu4",
    "还要": "hai2 yao4",
    "还得": "hai2 dei3",
    "全长": "quan2 chang2",
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
_NUMERALS = frozenset("零一二两三四五六七八九十百千万几半")
_TITLES = ("先生", "女士", "小姐", "老师", "经理", "医生", "教授", "同学", "总", "氏", "某", "家")
_SURNAMES = {  # read otherwise than as words
    **{
        "单": "shan4",
        "曾": "zeng1",
        "解": "xie4",
        "仇": "qiu2",
        "华": "hua4",
        "查": "zha1",
        "朴": "piao2",
        "翟": "zhai2",
    },
    **{"区": "ou1", "盖": "ge3", "任": "ren2", "乐": "yue4", "缪": "miao4", "燕": "yan1", "尉迟": "yu4 chi2"},
    **{"万俟": "mo4 qi2", "长孙": "zhang3 sun1"},
}
_LENGTH = re.compile(
    "(?<=[全剑身体臂翼路线桥河刀腿周边弧波音总杆绳墙城江宽高深])(长)(?=[零一二两三四五六七八九十百千几半约达为近])"
)
_DEGREE = frozenset("很太最更多这么那么真好不")


def corrected(words: Sequence[Neighbour]) -> dict[int, str]:
    """Place in the text → syllable, for characters that the lexicon reads otherwise; `words` with parts of speech."""
    found: dict[int, str] = {}
    place = 0
    for index, (word, kind) in enumerate(words):
        before = words[index - 1] if index else ("", "")
        after = words[index + 1] if index + 1 < len(words) else ("", "")
        if word[-1:] == "行" and word[:-1] and set(word[:-1]) <= _NUMERALS:
            found[place + len(word) - 1] = "xing2" if after[0][:1] == "人" else "hang2"  # 一行人, 三行字
        elif word in PHRASES:
            found |= dict(enumerate(PHRASES[word].split(" "), place))
        elif name := _surname(word, kind, after):
            found |= dict(enumerate(name.split(" "), place))
        elif len(word) == 3 and word[1] == "得":
            found[place + 1] = "de5"
        elif syllable := reading(word, kind, before, after):
            found[place] = syllable
        elif kind == "m" and len(word) > 1 and (syllable := reading(word[-1], "q", (word[:-1], "m"), after)):
            found[place + len(word) - 1] = syllable  # 三只: a number and what is counted, as one word
        place += len(word)
    text = "".join(word for word, _ in words)
    return found | {match.start(1): "chang2" for match in _LENGTH.finditer(text)}


def _surname(word: str, kind: str, after: Neighbour) -> str | None:
    """The syllables of the surname that a name begins with, or that stands before a title."""
    for length in (2, 1):
        name = word[:length]
        whole = len(word) == length and after[0].startswith(_TITLES)
        if name in _SURNAMES and (whole or (kind == "nr" and length < len(word) < 5 and word[0] != word[1])):
            return _SURNAMES[name]
    return None


def reading(word: str, kind: str, before: Neighbour, after: Neighbour) -> str | None:
    """The syllable of a one-character word, or None where its common reading holds."""
    if len(word) > 1:
        return None
    left, right = before[0][-1:], after[0][:1]
    verb = after[1][:1] == "v"
    if word == "地":
        return "de5" if kind == "uv" or (before[1][:1] in "adz" and before[0] and verb) else None
    if word == "得" and left == "还" and (verb or not after[0]):
        return "dei3"
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
