"""Cantonese text → upstream's symbols of Jyutping. The tables were checked by hand."""

import pytest

from gsvexport.errors import InputError
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import symbols
from gsvexport.text.yue.phonemes import symbols as of

pytest.importorskip("ToJyutping", reason="the extra `yue` is not installed")


def said(text):
    return [" ".join(phones) for phones in phonemise(text, "yue", "v2")]


@pytest.mark.parametrize(
    ("syllable", "phones"),
    [
        ("gwong2", "Ygw Yong2"), ("ngo5", "Yng Yo5"), ("ng5", "Yng Yg5"), ("m4", "Ym Ym4"), ("aap3", "Yaa Yp3"),
        ("aa3", "Yaa Ya3"), ("ai1", "Yai Yi1"), ("uk1", "Yuk Yk1"),
        ("kwan4", "Ykw Yan4"), ("zeoi3", "Yz Yeoi3"), ("jyun4", "Yj Yyun4"),
    ],
)  # fmt: skip
def test_a_syllable_is_two_symbols(syllable, phones):
    assert " ".join(of(syllable)) == phones
    assert set(of(syllable)) <= set(symbols("v2"))


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("佢哋喺度食飯。", "Yk Yeoi5 Yd Yei6 Yh Yai2 Yd You6 Ys Yik6 Yf Yaan6 ."),
        ("三隻貓㗎", "Ys Yaam1 Yz Yek3 Ym Yaau1 Yg Yaa3 ."),
        ("今日2個人，12蚊", "Yg Yam1 Yj Yat6 Yl Yoeng5 Yg Yo3 Yj Yan4 , Ys Yap6 Yj Yi6 Ym Yan1 ."),
        ("今晚8:30見。", ". Yg Yam1 Ym Yaan5 Yb Yaat3 Yd Yim2 Yb Yun3 Yg Yin3 ."),
        ("電話係2398。", "Yd Yin6 Yw Yaa2 Yh Yai6 Yj Yi6 Ys Yaam1 Yg Yau2 Yb Yaat3 ."),
        ("真係（好）貴！！", "Yz Yan1 Yh Yai6 Yh You2 Ygw Yai3 ! !"),
        ("好。", ". . Yh You2 ."),
        ("我check咗。", "Yng Yo5 , CH EH1 K Yz Yo2 ."),
    ],
)
def test_texts(text, phones):
    assert " ".join(said(text)) == phones


def test_what_cannot_be_read_is_named():
    with pytest.raises(InputError) as caught:
        phonemise("好ж", "yue", "v2")
    assert caught.value.problems == (r"'\u0436' (cyrillic small letter zhe) at 2",)


def test_any_text_gives_phones_of_the_table_or_names_what_is_wrong():
    from hypothesis import given, settings
    from hypothesis import strategies as st

    known = set(symbols("v2"))
    usual = "我哋喺度食飯隻㗎嘅係一二三百年月，。！？…~-/:%$¥0123456789 abA'\n()°℃½"

    @settings(max_examples=60)
    @given(st.one_of(st.text(st.sampled_from(usual), max_size=25), st.text(max_size=12)))
    def check(text):
        try:
            found = phonemise(text, "yue", "v2")
        except InputError as error:
            fine = bool(error.problems) or "no sound" in error.what
        else:
            fine = all(known.issuperset(sentence) for sentence in found)
        assert fine

    check()
