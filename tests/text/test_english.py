"""English words, numbers, abbreviations and signs → the phones that they are spoken with."""

import lzma
import random
import re

import pytest
from edit_distance import bare, distance

from gsvexport.errors import InputError
from gsvexport.text.en import lexicon, make
from gsvexport.text.en.letters import sound_out
from gsvexport.text.en.normal import normalise
from gsvexport.text.en.numbers import cardinal, ordinal, year
from gsvexport.text.en.phonemes import word
from gsvexport.text.en.predict import predict
from gsvexport.text.en.segment import segment
from gsvexport.text.phonemise import phonemise


def dictionary():
    lines, phones = lexicon._dictionary()
    entries = (line.split("\t") for line in lines._data.decode("ascii").splitlines()[2:])
    return [(word, tuple(phones[ord(code) - lexicon.FIRST_CODE] for code in codes)) for word, codes in entries]


def test_every_word_of_the_dictionary_is_found():
    entries = dictionary()
    assert len(entries) == 126052
    for spelling, phones in [entries[0], entries[-1], *random.Random(0).sample(entries, 2000)]:
        assert lexicon.pronounce(spelling) == phones


@pytest.mark.parametrize("absent", ["", "zzzz", "'", "0", "é", "qqq", "helloo"])
def test_a_word_that_is_not_there_is_not_found(absent):
    assert lexicon.pronounce(absent) is None


def test_the_dictionary_is_made_the_same_again():
    lines = ["b B IY1", "a AH0", "a(2) EY1", "a's EY1 Z # a note", "a42 EY1"]
    assert make.dictionary(lines) == make.dictionary(lines)
    assert lzma.decompress(make.dictionary(lines)) == b"\tAH0 B EY1 IY1 Z\na\t!\na's\t#%\nb\t\"$\n"


def test_words_written_together_are_taken_apart():
    assert segment("deepmindresearch") == ["deep", "mind", "research"]
    assert segment("blockchain") == ["block", "chain"]
    assert segment("wasabi") == ["wasabi"]
    assert segment("a") == ["a"]


def test_the_network_reads_what_is_in_no_dictionary():
    assert " ".join(predict("wasabi")) == "W AA0 S AA1 B IY0"
    assert len(predict("supercalifragilisticexpialidocious")) <= 20
    known = {phone for _, phones in dictionary() for phone in phones}
    assert known.issuperset(predict("'"))


@pytest.mark.parametrize(
    ("spelling", "phones"),
    [
        ("hello", "HH AH0 L OW1"),
        ("don't", "D OW1 N T"),
        ("'tis", "T IH1 Z"),
        ("dogs'", "D AO1 G Z"),
        ("~w", "D AH1 B AH0 L Y UW0"),
        ("~us", "Y UW1 Z"),
        ("~s's", "EH1 S AH0 Z"),
        # endings and compounds
        ("googled", "G UW1 G AH0 L D"),
        ("rumba's", "R AH1 M B AH0 Z"),
        ("kubernetes's", "K UW1 B ER0 N EH1 T EH1 S AH0 Z"),
        ("smartwatch", "S M AA1 R T W AA1 CH"),
        ("well-heeled", "W EH1 L HH IY1 L D"),
        # spelled, because they are short
        ("gpt", "JH IY1 P IY1 T IY1"),
        ("wug", "D AH1 B AH0 L Y UW0 Y UW1 JH IY1"),
        # what today's names and numbers are called
        ("tiktok", "T IH1 K T AA2 K"),
        ("wi-fi", "W AY1 F AY2"),
        ("twenty-three", "T W EH1 N T IY0 TH R IY2"),
        ("sixty-nine", "S IH1 K S T IY0 N AY1 N"),
        # by the network
        ("chatbot", "CH AE1 T B AA2 T"),
    ],
)
def test_words(spelling, phones):
    assert " ".join(word(spelling)) == phones


def test_rules_get_most_of_what_the_dictionary_knows():
    plain = [entry for entry in dictionary() if re.fullmatch("[a-z']+", entry[0])]
    sample = random.Random(0).sample(plain, 3000)
    total = sum(len(phones) for _, phones in sample)
    assert sum(distance(sound_out(spelling), phones) for spelling, phones in sample) / total < 0.27  # measured .254
    assert sum(distance(bare(sound_out(spelling)), bare(phones)) for spelling, phones in sample) / total < 0.23  # .209


def test_any_letters_can_be_said():
    letters = random.Random(0)
    known = {phone for _, phones in dictionary() for phone in phones}
    for _ in range(100):
        spelling = "".join(letters.choices("abcdefghijklmnopqrstuvwxyz'", k=letters.randint(1, 12))) + "e"
        assert known.issuperset(word(spelling)), spelling


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("0", "zero"),
        ("13", "thirteen"),
        ("40", "forty"),
        ("101", "one hundred one"),
        ("1000000", "one million"),
        ("12345", "twelve thousand, three hundred forty-five"),
        ("10030", "ten thousand thirty"),
        ("1002003", "one million, two thousand three"),
        ("007", "zero zero seven"),
        ("1" * 16, " ".join(["one"] * 16)),
    ],
)
def test_cardinals(number, words):
    assert cardinal(number) == words


def test_ordinals_and_years():
    assert [ordinal(one) for one in ("1", "12", "20", "21", "100")] == [
        "first", "twelfth", "twentieth", "twenty-first", "one hundredth",
    ]  # fmt: skip
    assert [year(one) for one in ("1984", "1905", "1900", "2000", "2007", "2025")] == [
        "nineteen eighty-four", "nineteen oh five", "nineteen hundred", "two thousand", "two thousand seven",
        "twenty twenty-five",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Mr. Smith lives at 5 Main St. He left.", "mister smith lives at five main street . he left ."),
        ("Dr. No of St. Paul. In St. Louis", "doctor no of saint paul . in saint louis"),
        ("5 ms. Ms. Lee", "five milliseconds . miz lee"),
        ("Acme Inc. sells, e.g., tea.", "acme incorporated sells , for example tea ."),
        ("cats, dogs, etc. They", "cats , dogs , etcetera . they"),
        ("J. Smith", "~j smith"),
        ("in the U.S. Army", "in the ~u ~s army"),
        ("$3.50, $1, $0.99", "three dollars and fifty cents , one dollar , ninety-nine cents"),
        ("£1.01, £0.02", "one pound and one penny , two pence"),
        ("$2.5 million", "two point five million dollars"),
        ("¥500 or €20.00", "five hundred yen or twenty euros"),
        ("3:30 p.m. Then 10am, 12:05, 7:00", "three thirty ~p ~m . then ten ~a ~m , twelve oh five , seven o'clock"),
        ("1,234.5 in 1984", "one thousand , two hundred thirty-four point five in nineteen eighty-four"),
        ("the 1990s, the 80s", "the nineteen nineties , the eighties"),
        ("May 5th, 1/2 of 10-20", "may fifth , one half of ten to twenty"),
        ("-5° at 50% + 3", "minus five degrees at fifty percent plus three"),
        ("5GB, 1 km, 3.2 GHz", "five gigabytes , one kilometer , three point two gigahertz"),
        ("No. 5, v2.0.1", "number five , v two point zero point one"),
        ("555-123-4567", "five five five , one two three , four five six seven"),
        ("GPUs, HTML5, NASA, the US and us", "~g ~p ~us , ~h ~t ~m ~l five , nasa , the ~u ~s and us"),
        ("IT IS LOUD", "it is loud"),
        ("due 2025-03-05.", "due march fifth , twenty twenty-five ."),
        ("Chapter IV, World War II, Act I", "chapter four , world war two , act one"),
        ("Henry VIII and Louis XIV, but John I think", "henry the eighth and louis the fourteenth , but john i think"),
        ("Part IC, vitamin C, CIVIC", "part ~i ~c , vitamin c , civic"),
        ("iPhone, OpenAI, McDonald, eBay", "i phone , open ~a ~i , mcdonald , e bay"),
        ("60 mph, 1 km/h, 6 ft", "sixty miles per hour , one kilometer per hour , six feet"),
        ("20 °C, 50%", "twenty degrees celsius , fifty percent"),
        (".5 of a $ & 0:00", "point five of a dollar and zero hundred"),
        ("a@b.com", "a at b dot com"),
        ("a well-known – and “old” — thing", "a well-known - and old thing"),
        ("really?! (yes) wait... no; it’s", "really ? yes wait . no it's"),
        ("Café naïve Ærø ﬁne ½", "cafe naive aero fine one half"),
        ("Heading\n\nText\nmore", "heading . text . more"),
        ("zero\u200bwidth", "zerowidth"),
        ("vitamin A, the Q&A, A/B tests", "vitamin ~a , the ~q and ~a , ~a b tests"),
        ("no. 5, Fig. 3, J. K. Rowling", "number five , figure three , ~j ~k rowling"),
        ("5 oz. of tea. A Ph.D. in résumés", "five ounces of tea . ~a ~p ~h ~d in resumees"),
        ("Mar. 5th and Aug. 4", "march fifth and august four"),
        (
            "¥100-200, $10-20, -$5, $5M",
            "one hundred to two hundred yen , ten to twenty dollars , minus five dollars , five million dollars",
        ),
        (
            "8:30-12:30, 3℃~26℃, 45-16",
            "eight thirty to twelve thirty , three to twenty-six degrees celsius , forty-five to sixteen",
        ),
        (
            "(555) 867-5309, 911, PIN 4720",
            "five five five , eight six seven , five three zero nine , nine one one , pin four seven two zero",
        ),
        (
            "7/8 inch, 1 1/2 cups, 24/7, 5 m/s",
            "seven eighths inch , one and a half cups , twenty-four seven , five meters per second",
        ),
        ("AT&T, GitHub, iOS, Wi-Fi, TikTok", "~a ~t and ~t , git hub , i ~o ~s , wi-fi , tiktok"),
        ("The LED, the WHO, WWII, NOT now", "the ~l ~e ~d , the ~w ~h ~o , world war two , not now"),
        ("1. Lift it. 2. Push it.", "first , lift it . second , push it ."),
        ("Note: (see below); so… go—now", "note see below so go now"),
        ("Yo-Yo, X-ray, 5-year-old", "yo - yo , x-ray , five year-old"),
        ("6 × 12, 64 - 17, 2½", "six times twelve , sixty-four minus seventeen , two and a half"),
        ("http://example.com/a", "example dot com slash a"),
        ("$3.005 and $3.00", "three point zero zero five dollars and three dollars"),
        ("so ''-'' it '-' is", "so it is"),
    ],
)  # fmt: skip
def test_what_is_written_and_what_is_said(written, said):
    assert " ".join(normalise(written)) == said


# After each word stands what tells its readings apart.
HETERONYMS = """
I want to record R AH0 | a record R EH1 | they record R AH0 | his records R EH1 | she records R AH0
He will present P R IY0 | a present P R EH1 | at present P R EH1 | we object AH0 | the object AA1
close K L OW1 S | close the door K L OW1 Z | it is close to us K L OW1 S | please close it K L OW1 Z
use the stairs Y UW1 Z | of no use Y UW1 S | it uses gas Y UW1 Z | the uses of it Y UW1 S | to live L IH1 V
a live band L AY1 V | people live here L IH1 V | many lives were lost L AY1 V | she lives in Rome L IH1 V
nine lives L AY1 V | have you read it R EH1 | to read R IY1 | he read it R EH1 | I read it yesterday R EH1
please read this R IY1 | it was read R EH1 | will lead L IY1 | the lead singer L IY1 | lead pipes L EH1
tin and lead L EH1 | the wind W IH1 | to wind it up W AY1 | a tear gas T IH1 | to tear T EH1
increase the price IH2 | an increase IH1 | we produce it P R AH0 | fresh produce of P R OW1
a separate room AH0 T | to separate them EY2 T | an estimate AH0 T | we estimate EY2 T | used to go Y UW1 S T
was used to cut Y UW1 Z D | a wound W UW1 | it wound up W AW1 | minute details M AY0 | one minute M IH1
bass guitar B EY1 | sea bass B AE1 | a house HH AW1 S | to house HH AW1 Z | bow tie B OW1
he is content N T EH1 | the content K AA1 | to perfect it P ER0 | a perfect day P ER1 | the desert D EH1
to desert D IH0 | don't contract it T R AE1 | on contract K AA1
"""


@pytest.mark.parametrize("line", [part.strip() for part in re.split(r"[|\n]", HETERONYMS) if part.strip()])
def test_words_with_two_readings_are_told_apart_by_their_neighbours(line):
    words = line.split()
    cut = next(index for index in range(1, len(words)) if words[index].isupper() and words[index] != "I" and index > 0)
    [sentence] = phonemise(" ".join(words[:cut]), "en", "v2")
    assert " ".join(words[cut:]) in " ".join(sentence)


def test_other_characters_are_named_once_and_together():
    with pytest.raises(InputError) as caught:
        phonemise("Hi 你你 ж \ue000", "en", "v2")
    assert len(caught.value.problems) == 3
    for part in (r"'\u4f60' (cjk unified ideograph-4f60) at 4, 5", "cyrillic small letter zhe", r"'\ue000'"):
        assert part in str(caught.value)
