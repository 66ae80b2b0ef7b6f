"""Phrase packs: what a template becomes, the file, and what damages it."""

import itertools
import json
from pathlib import Path

import pytest

from gsvexport.errors import InputError
from gsvexport.phrases.compiling import compile_phrases
from gsvexport.phrases.pack import Filled, Pack, Phrase, parse_pack, read_pack
from gsvexport.phrases.spec import PhraseSpec, read_spec
from gsvexport.text.phonemise import phonemise
from gsvexport.untrusted.reading import Refused

CAR = """
[phrases.welcome]
text = "Welcome home."

[phrases.turn-left]
text = "In {metres} metres, turn left."
slots.metres = { from = 50, to = 1000, step = 50 }

[phrases.messages]
text = "{name}, you have {count} new messages."
slots.count = { from = 0, to = 12 }
slots.name = ["Anna", "Doctor Smith"]
[[phrases.messages.when]]
count = [1]
text = "{name}, you have one new message."

[phrases.time]
text = "It is {hour}:{minute}."
slots.hour = { from = 9, to = 13 }
slots.minute = { from = 0, to = 20, digits = 2, step = 5 }
"""


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    path = tmp_path_factory.mktemp("phrases") / "car.toml"
    path.write_text(CAR)
    return read_spec(path)


@pytest.fixture(scope="module")
def pack(specs):
    return Pack("alice", "en", "v2", 32000, compile_phrases(specs, "en", "v2"))


def test_every_sentence_of_a_template_is_what_the_front_end_reads(specs, pack):
    for spec in specs:
        for chosen in itertools.product(*spec.slots.values()):
            values = dict(zip(spec.slots, chosen, strict=True))
            wanted = phonemise(spec.filled(values), "en", "v2")
            assert [list(pack.phrase(spec.name).phones(values))] == wanted


def test_a_slot_holds_what_changes_and_the_text_what_does_not(pack):
    before, slot, after = pack.phrase("turn-left").pieces
    assert before == ("IH0", "N")
    assert isinstance(slot, Filled)
    assert " ".join(slot.phones[1]) == "W AH1 N HH AH1 N D R AH0 D"
    assert " ".join(after) == "M IY1 T ER0 Z , T ER1 N L EH1 F T ."
    assert not pack.phrase("turn-left").others


def test_what_slots_are_only_together_is_kept_whole(pack):
    """Whole hours are not read as hour and minute."""
    time = pack.phrase("time")
    assert 0 < len(time.others) < 25
    assert time.others[time.slots[0][1].index("13"), 0] == tuple(phonemise("It is 13:00.", "en", "v2")[0])


def test_a_case_of_its_own_has_a_text_of_its_own(pack):
    one = pack.phrase("messages").phones({"name": "Anna", "count": "1"})
    assert list(one) == phonemise("Anna, you have one new message.", "en", "v2")[0]


def test_a_pack_is_read_as_it_was_written_and_equal_ones_are_equal_bytes(pack, tmp_path):
    sound = Pack(
        pack.voice, pack.language, pack.symbols, pack.rate, {**pack.phrases, "hm": Phrase("Hm.", sound=b"fLaC")}
    )
    for one in (pack, sound):
        (tmp_path / "a.gsvp").write_bytes(one.to_bytes())
        assert read_pack(tmp_path / "a.gsvp") == one
        turned = dict(reversed(one.phrases.items()))
        assert Pack(one.voice, one.language, one.symbols, one.rate, turned).to_bytes() == one.to_bytes()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ["slot 'metres' has no value"]),
        ({"metres": "51"}, ["slot 'metres' cannot be '51'; it can be 50, 100, 150, … 1000"]),
        ({"metres": "100", "miles": "1"}, ["it has no slot 'miles'"]),
        ({"metre": "100"}, ["it has no slot 'metre'", "slot 'metres' has no value"]),
    ],
)
def test_wrong_values_are_told_all_at_once(pack, values, words):
    with pytest.raises(InputError) as told:
        pack.phrase("turn-left").phones(values)
    assert all(one in str(told.value) for one in words)


def test_an_unknown_phrase_is_told_with_those_there_are(pack):
    with pytest.raises(InputError, match=r"no phrase 'turn'(.|\n)*turn-left"):
        pack.phrase("turn")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds 1 to"),
        ("[phrase.a]\ntext='x'", "unknown key 'phrase'"),
        ("[phrases.A]\ntext='x'", "phrase 'A': a name has"),
        ("[phrases.a]\ntxt='x'", "unknown key 'txt'"),
        ("[phrases.a]\ntext=''", "'text' has 1 to"),
        ("[phrases.a]\ntext='{b}'", "{b} is no slot"),
        ("[phrases.a]\ntext='{b'\nslots.b=['x']", "a brace that belongs to no {slot}"),
        ("[phrases.a]\ntext='x'\nslots.b=['x']", "its text has no {b}"),
        ("[phrases.a]\ntext='{b}'\nslots.b=[]", "1 to 10000 texts"),
        ("[phrases.a]\ntext='{b}'\nslots.b=['x','x']", "stands there twice"),
        ("[phrases.a]\ntext='{b}'\nslots.b=[1.5]", "texts or whole numbers"),
        ("[phrases.a]\ntext='{b}'\nslots.b=['{c}']", "no brace"),
        ("[phrases.a]\ntext='{b}'\nslots.b={from=1}", "whole numbers from, to"),
        ("[phrases.a]\ntext='{b}'\nslots.b={from=5,to=1}", "has 0 values"),
        ("[phrases.a]\ntext='{b}'\nslots.b={from=0,to=99999}", "has 100000 values"),
        ("[phrases.a]\ntext='{b}'\nslots.b={from=0,to=9,step=0}", "step is 1 or more"),
        ("[phrases.a]\ntext='{b}'\nslots.b=['x']\n[[phrases.a.when]]\ntext='y'", "would always be used"),
        ("[phrases.a]\ntext='{b}'\nslots.b=['x']\n[[phrases.a.when]]\nb='z'\ntext='y'", "no value of it"),
        (
            "[phrases.a]\ntext='{b}'\nslots.b=['x']\n[[phrases.a.when]]\nc='z'\ntext='y'",
            "slot 'c' that it does not have",
        ),
        ("[phrases", "not valid TOML"),
    ],
)
def test_a_file_that_is_wrong_is_told_in_words(tmp_path, text, words):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(InputError) as told:
        read_spec(tmp_path / "a.toml")
    assert words in str(told.value)


def test_a_phrase_is_one_sentence(specs):
    with pytest.raises(InputError, match="phrase 'two' is 2 sentences"):
        compile_phrases([PhraseSpec("two", "You have arrived at last. Have a good day everybody.")], "en", "v2")


def test_what_is_read_otherwise_together_needs_few_enough_sentences(monkeypatch):
    spec = PhraseSpec("time", "It is {hour}:{minute}.", {"hour": ("11", "12", "13", "14"), "minute": ("00", "10")})
    assert compile_phrases([spec], "en", "v2")["time"].others
    monkeypatch.setattr("gsvexport.phrases.compiling.MOST_READ", 7)
    with pytest.raises(InputError, match="phrase 'time': its slots are read otherwise together"):
        compile_phrases([spec], "en", "v2")


def changed(pack, change):
    data = pack.to_bytes()
    head, _, rest = data.partition(b"\n")
    size = int(head.split()[-1])
    told = json.loads(rest[:size])
    change(told)
    text = json.dumps(told).encode()
    return b"gsvexport phrases 1 %d\n" % len(text) + text + rest[size:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.pop("voice"), "'voice' is wrong"),
        (lambda told: told.update(symbols="v9"), "phone table 'v9'"),
        (lambda told: told.update(rate=True), "'rate' is wrong"),
        (lambda told: told["phrases"].update(a=[]), "a table is missing"),
        (lambda told: told["phrases"]["turn-left"]["pieces"][1].update(slot=3), "has no slot"),
        (lambda told: told["phrases"]["turn-left"]["pieces"][1]["phones"].pop(), "not all of its values"),
        (lambda told: told["phrases"]["turn-left"]["slots"][0].update(values=[]), "has no value"),
        (lambda told: told["phrases"]["time"]["others"].update({"9 99": "AH0"}), "values that it does not have"),
        (lambda told: told["phrases"]["time"]["others"].update({"-1 0": "AH0"}), "values that it does not have"),
        (lambda told: told["phrases"]["hm"]["sound"].update(size=99), "sound is damaged"),
        (lambda told: told["phrases"]["hm"]["sound"].update(start=-1), "sound is damaged"),
    ],
)
def test_a_damaged_pack_is_refused(pack, change, words):
    whole = Pack("a", "en", "v2", 32000, {**pack.phrases, "hm": Phrase("Hm.", sound=b"fLaC")})
    with pytest.raises(Refused, match=words):
        parse_pack(changed(whole, change))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"gsvexport phrases 1 99\n{}", b"gsvexport phrases 2 2\n{}"])
def test_what_is_no_pack_is_refused(tmp_path, data):
    (tmp_path / "a.gsvp").write_bytes(data)
    with pytest.raises(InputError, match="phrase pack"):
        read_pack(tmp_path / "a.gsvp")
    with pytest.raises(InputError, match="No such file"):
        read_pack(Path(tmp_path / "b.gsvp"))


def test_a_pack_that_nobody_could_read_is_not_written():
    """The reader's bound on values is met when a pack is written, and not on the device."""
    piece = Filled(0, tuple(("AH0", ",", str(number)) for number in range(9_000)))
    slots = (("n", tuple(map(str, range(9_000)))),)
    phrases = {f"p{number}": Phrase("{n}", slots, (piece,)) for number in range(10)}
    with pytest.raises(InputError, match="has more than 200000 values"):
        Pack("alice", "en", "v2", 32000, phrases).to_bytes()
