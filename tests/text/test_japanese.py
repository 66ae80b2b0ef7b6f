"""Japanese text → Open JTalk's phones with marks of pitch. The tables were checked by hand."""

import re

import pytest
from referee import other_engine

from gsvexport.calibrate.corpus import folder, read_corpus
from gsvexport.errors import InputError
from gsvexport.text.ja.normal import normalise
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import symbols
from gsvexport.text.words import SIGNS

jtalk = pytest.importorskip("pyopenjtalk", reason="the extra `ja` is not installed")
if other_engine():
    pytest.skip("another engine than voices were trained with: install the extra `ja`", allow_module_level=True)


def said(text, table="v2"):
    return [" ".join(phones) for phones in phonemise(text, "ja", table)]


def sounds(text):
    """What is heard, without pitch and borders."""
    return " ".join(phone for sentence in phonemise(text, "ja", "v1") for phone in sentence if phone not in SIGNS)


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("雨が降る。", "a ] m e g a UNK f u ] r u ."),
        ("飴を食べる。", "a [ m e o UNK t a [ b e ] r u ."),
        ("箸、橋、端", "h a ] sh i , h a [ sh i , h a [ sh i ."),
        ("はい。", ". h a ] i ."),
        ("え？", ". . e ?"),
        ("そうですか！", "s o [ o d e s u ] k a !"),
    ],
)
def test_pitch_rises_and_falls_and_accent_phrases_have_a_border(text, phones):
    assert said(text) == [phones]


def test_the_old_table_has_no_marks_and_whispered_vowels():
    assert said("学生です。", "v1") == ["g a k U s e e d e s U ."]
    assert said("学生です。") == ["g a [ k u s e e d e ] s u ."]


def test_every_sentence_differs_between_the_tables_only_in_marks_and_whispers():
    for text in ("明日は雨が降るでしょうか。", "菊池さんは北海道へ行きました。", "きっと、二つ目の駅です！"):
        marked = [phone for phone in said(text)[0].split() if phone not in ("[", "]", "UNK")]
        assert marked == said(text, "v1")[0].replace("I", "i").replace("U", "u").split()


def test_both_conventions_of_the_old_table():
    assert said("学生です。", "v1-2024-08") == ["g a UNK k u s e e d e UNK s u ."]
    assert said("ロミオ・ジュリエット", "v2") == ["r o ] m i o _ j u ] r i e cl t o ."]
    assert said("ロミオ・ジュリエット", "v1") == ["r o m i o UNK j u r i e cl t o ."]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("2024年3月5日", "2024年3月5日"),
        ("2024-03-05、2024/3/5", "2024年3月5日 , 2024年3月5日"),
        ("8:30、9:00、8:30-12:30", "8時30分 , 9時 , 8時30分から12時30分"),
        ("1,234,567円、¥500、$3.5、€20", "1234567円 , 500円 , 3点ゴードル , 20ユーロ"),
        ("¥100-200、$5M", "100から200円 , 5000000ドル"),
        ("50%、3.14", "50パーセント , 3点イチヨン"),
        ("090-1234-5678、(03)1234-5678", "ゼロキューゼロ , イチニーサンヨン , ゴーロクナナハチ , ゼロサン"),
        ("2/3、3〜5人、10%~20%", "3ぶんの2 , 3から5人 , 10パーセントから20パーセント"),
        ("-5℃、20°C、3℃~26℃", "マイナス5度 , 20度 , 3度から26度"),
        ("5km、3kg、16GB、5m/s", "5キロメートル , 3キログラム , 16ギガバイト , 5メートル毎秒"),
        ("港区1-2-3、〒105-0011", "港区1の2の3 , 郵便番号 , イチゼロゴー"),
        ("暗証番号は1234", "暗証番号はイチニーサンヨン"),
        ("02月09日、24/7、½", "2月9日 , 24時間年中無休 , 2ぶんの1"),
        ("「はい」と（彼は）言った…", "UNK はい UNK と UNK 彼は UNK 言った …"),
        ("えっ！？本当？！", "えっ ! ? 本当 ? !"),
        ("そう〜です——ね♪", "そう UNK です UNK UNK ね UNK"),
        ("ＡＢＣ１２３、ｱｲﾊﾞ", "ABC123 , アイバ"),
        ("一行目\n二行目。\n\n三行目", "一行目 . 二行目 . 三行目"),
        ("A&B、1+1=2", "AアンドB , 1プラス1イコール2"),
        ("18。20年", "18 . 20年"),
    ],
)
def test_what_is_written_and_what_is_said(written, spoken):
    assert " ".join(token for token, _ in normalise(written)).startswith(spoken)


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("3月14日", "s a N g a ts u j u u y o cl k a"),
        ("3人と一つ", "s a N n i N t o h I t o ts u"),
        ("1,234円", "s e N n i hy a k u s a N j u u y o e N"),
        ("3.14", "s a N t e N i ch i y o N"),
        ("クォーツ", "k u o o ts u"),
        ("テュニジア", "t y u n i j i a"),
        ("マイケル・ジャクソン", "m a i k e r u UNK j a k U s o N"),
        ("hello、世界", "HH AH0 L OW1 s e k a i"),
        ("日本と東京", "n i cl p o N t o t o o ky o o"),
    ],
)
def test_numbers_rare_sounds_and_english(text, phones):
    assert sounds(text) == phones


def test_open_jtalks_own_phones_are_kept():
    for sentence in read_corpus(folder() / "ja.toml").sentences:
        text = re.sub(r"[、。？！…「」]", "", sentence.text)
        if re.search(r"[0-9A-Za-z・〜—]", text) or "、" in sentence.text:
            continue
        assert sounds(text).split() == jtalk.g2p(text).split(), text


def test_characters_without_a_reading_are_named_with_their_places():
    with pytest.raises(InputError) as caught:
        phonemise("你们好ж笑\U0001f600ж", "ja", "v2")
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [
        r"'\u4f60'", r"'\u4eec'", r"'\u0436'", r"'\U0001f600'",
    ]  # fmt: skip
    assert caught.value.problems[2].endswith("at 4, 7")


def test_long_texts_are_cut_at_signs_or_between_accent_phrases():
    pieces = phonemise("今日はとてもいい天気なので散歩に行きました" * 12 + "。", "ja", "v2")
    assert len(pieces) > 2
    assert all(len(piece) <= 150 and piece[-1] in SIGNS for piece in pieces)


def test_any_text_gives_phones_of_the_table_or_names_what_is_wrong():
    from hypothesis import given, settings
    from hypothesis import strategies as st

    usual = "あいうえおんっーゃゅょガヴァ日本語私行々〆ヶ、。！？…・〜—-~/:%$¥.0123456789 abcAB'\n()「」°℃²½㎡㈱ｱﾞ"

    @settings(max_examples=60)
    @given(st.one_of(st.text(st.sampled_from(usual), max_size=25), st.text(max_size=12)), st.sampled_from(["v1", "v2"]))
    def check(text, table):
        known = set(symbols(table))
        try:
            found = phonemise(text, "ja", table)
        except InputError as error:
            fine = bool(error.problems) or "no sound" in error.what
        else:
            fine = all(known.issuperset(sentence) and sentence[-1] in SIGNS for sentence in found)
        assert fine

    check()
