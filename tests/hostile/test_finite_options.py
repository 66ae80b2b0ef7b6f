"""What `float` reads and is no number: neither an option nor a file takes it."""

import pytest

from gsvexport import cli
from gsvexport.errors import InputError, TargetError, VoiceError
from gsvexport.target.target import read_target
from gsvexport.voice.profile import read_profile

NONE = ("nan", "-nan", "inf", "-inf", "1e999", "NaN", "Infinity")
OPTIONS = {
    "--speed": ["say", "A.gsv", "x", "-o", "o.wav"],
    "--noise-scale": ["say", "A.gsv", "x", "-o", "o.wav"],
    "--cfg-rate": ["say", "A.gsv", "x", "-o", "o.wav"],
    "--top-p": ["say", "A.gsv", "x", "-o", "o.wav"],
    "--temperature": ["say", "A.gsv", "x", "-o", "o.wav"],
    "--repetition-penalty": ["say", "A.gsv", "x", "-o", "o.wav"],
    "--margin": ["verify", "A.gsv", "--against", "B.gsv"],
    "--growth": ["compare", "A.gsv", "B.gsv"],
    "--older-than": ["cache", "--prune"],
    "--grace": ["gc", "repository"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_takes_finite_numbers_alone(option, capsys):
    for value in NONE:
        assert cli.run([*OPTIONS[option], f"{option}={value}"]) == InputError.exit_code, value
        assert option in capsys.readouterr().err, value


def test_every_option_with_a_number_is_one_of_these():
    import click

    from gsvexport.cli.commands import cli as commands
    from gsvexport.cli.numbers import Finite

    found = {
        name: one.type
        for command in commands.commands.values()
        for one in command.params
        if isinstance(one.type, (click.FloatRange, click.types.FloatParamType))
        for name in one.opts
    }
    assert {name for name, kind in found.items() if not isinstance(kind, Finite)} == set()
    assert found.keys() >= OPTIONS.keys()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_targets_and_voices_take_finite_numbers_alone(tmp_path, value):
    path = tmp_path / "board.toml"
    for line in (f"[device]\nbandwidth_gbs = {value}", f"[limits]\nseconds = {value}", f"[gates]\nsnr_db = {value}"):
        path.write_text(f'extends = "x86-64"\ntitle = "A board"\n{line}\n')
        with pytest.raises(TargetError, match="number"):
            read_target(str(path))


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "1979-05-27", "[nan]", "{a = inf}", f"{1 << 200}"])
def test_a_voice_that_holds_other_values_than_its_keys_take_is_refused(tmp_path, value):
    path = tmp_path / "voice.toml"
    for name in ("gpt", "sovits", "language", "name", "version", "notice"):
        path.write_text(f"[voice]\n{name} = {value}\n")
        with pytest.raises(VoiceError, match=name):
            read_profile(path)
    for name in ("audio", "text", "phones", "prompt_codes", "speaker", "language"):
        path.write_text(f'[voice]\ngpt = "a.ckpt"\nsovits = "a.pth"\nlanguage = "en"\n[reference]\n{name} = {value}\n')
        with pytest.raises(VoiceError, match=rf"voice.toml:6: .*{name}"):
            read_profile(path)
