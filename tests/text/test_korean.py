"""Korean text → the letters that are spoken. The examples of the rules are those of the norms of pronunciation."""

import pytest

from gsvexport.errors import InputError
from gsvexport.text.ko.normal import normalise
from gsvexport.text.ko.numbers import decimal, digits, native, sino
from gsvexport.text.ko.sounds import pronounced
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import symbols

pytest.importorskip("mecab", reason="the extra `ko` is not installed")


def said(text):
    return ["".join(phones) for phones in phonemise(text, "ko", "v2")]


def heard(text):
    """How a text is spelled as it is heard, of jamo without any marks."""
    import unicodedata

    return unicodedata.normalize("NFC", pronounced(text))


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("닭을/흙과/값이/넋만/읽다/앉아/핥다/없다/여덟", "달글/흑꽈/갑씨/넝만/익따/안자/할다/업따/여덜"),
        ("좋다/놓고/많소/않는/싫어/쌓네", "조타/노코/만쏘/안는/시러/싼네"),
        ("각하/맏형/좁히다/꽂히다/앉히다", "가카/마텽/조피다/꼬치다/안치다"),
        ("굳이/같이/밭이/닫히다/벼훑이", "구지/가치/바치/다치다/벼훌치"),
        ("국물/앞마당/있는/협력/백리", "궁물/암마당/인는/혐녁/뱅니"),
        ("신라/칼날/난로/강릉/담력", "실라/칼랄/날로/강능/담녁"),
        ("옷 한 벌/꽃 위", "오 탄 벌/꼳 위"),
        ("가져/희망/무늬/의사", "가저/히망/무니/의사"),
        ("밟다/밟아/밟히다/넓죽하다", "밥따/발바/발피다/넙쭈카다"),
        ("디귿이/티읕을/키읔에", "디그시/티으슬/키으게"),
        ("먹을수록/할걸", "머글쑤록/할껄"),
    ],
)
def test_syllables_sound_as_the_norms_say(written, spoken):
    for one, wanted in zip(written.split("/"), spoken.split("/"), strict=True):
        assert heard(one) == wanted


def test_stems_and_endings_are_told_by_the_analyser():
    assert said("신을 신고 갈 데가 있다.") == ["ㅅㅣㄴㅡㄹ空ㅅㅣㄴㄲㅗ空ㄱㅏㄹ空ㄸㅔㄱㅏ空ㅇㅣㄷㄸㅏ."]
    assert said("산과 바다가 보인다.") == ["ㅅㅏㄴㄱㅗㅏ空ㅂㅏㄷㅏㄱㅏ空ㅂㅗㅇㅣㄴㄷㅏ."]


def test_numbers():
    assert [sino(one) for one in ("0", "10", "11", "1234", "10000", "616578", "100000000")] == [
        "영", "십", "십일", "천이백삼십사", "만", "육십일만육천오백칠십팔", "일억",
    ]  # fmt: skip
    assert [native(one) for one in ("1", "20", "21", "23", "120")] == ["한", "스무", "스물한", "스물세", "백스무"]
    assert decimal("3.14") == "삼점일사"
    assert digits("010") == "영일영"


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("2024-03-05에 3:30", "2024년 3월 5일에 3시 30분"),
        ("6월 10월 1번째", "유월 시월 첫번째"),
        ("$10-20 또는 ¥100", "십에서 이십달러 또는 백엔"),
        ("-5℃에서 3~6°C", "영하 오도에서 삼에서 육도"),
        ("38.6kg, 5m/s, 12km", "삼십팔점육킬로그램, 오미터 매 초, 십이킬로미터"),
        ("1/2, 3.14, 24/7, 50%", "이분의 일, 삼점일사, 연중무휴, 50퍼센트"),
        ("010-1234-5678", "영일영-일이삼사-오육칠팔"),
        ("비밀번호는 4720이다", "비밀번호는 사칠이영이다"),
        ("1,234원", "1234원"),
        ("경기는 3:2", "경기는 삼 대 이"),
        ('"네" (아니요); 음…', "停네停 停아니요停停 음…"),
    ],
)
def test_what_is_written_and_what_is_said(written, spoken):
    assert normalise(written) == spoken


def test_counters_take_native_numerals():
    assert said("사과 3개와 책 20권, 20명과 18층.") == [
        "ㅅㅏㄱㅗㅏ空ㅅㅔㄱㅐㅇㅗㅏ空ㅊㅐㄱ空ㅆㅡㅁㅜㄱㅜㅓㄴ,空ㅇㅣㅅㅣㅁㅁㅣㅓㅇㄱㅗㅏ空ㅅㅣㅂㅍㅏㄹㅊㅡㅇ."
    ]


def test_short_texts_and_english():
    assert said("네.") == ["..ㄴㅔ."]
    assert said("3시.") == [".ㅅㅔㅅㅣ."]
    assert said("KBS에서 봤어요.") == ["KEY1BIY1EH1Sㅇㅔㅅㅓ空ㅂㅗㅏㅆㅓㅇㅣㅗ."]


def test_what_cannot_be_read_is_named():
    with pytest.raises(InputError) as caught:
        phonemise("안녕 ж", "ko", "v2")
    assert caught.value.problems == (r"'\u0436' (cyrillic small letter zhe) at 4",)


def test_any_text_gives_phones_of_the_table_or_names_what_is_wrong():
    from hypothesis import given, settings
    from hypothesis import strategies as st

    known = set(symbols("v2"))
    usual = "가각닭값있는좋아의희예쪄ㅋㅎ ,.!?…~-/:%$₩0123456789 abcA'\n\"()°℃½개시명"

    @settings(max_examples=60)
    @given(st.one_of(st.text(st.sampled_from(usual), max_size=25), st.text(max_size=12)))
    def check(text):
        try:
            found = phonemise(text, "ko", "v2")
        except InputError as error:
            fine = bool(error.problems) or "no sound" in error.what
        else:
            fine = all(known.issuperset(sentence) for sentence in found)
        assert fine

    check()
