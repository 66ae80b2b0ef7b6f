import json
import os
import subprocess
import sys

import pytest
from published import PRIVATE, make_artifact, renamed

from gsvexport.artifact import container, keys
from gsvexport.artifact.signature import (
    MOST,
    PublicKey,
    Signature,
    add_signature,
    checked,
    from_bytes,
    right,
    sign,
    signers,
    to_bytes,
)
from gsvexport.cli import run
from gsvexport.errors import ArtifactError, EnvironmentProblem, InputError

OTHER = bytes(range(32, 64))


def test_a_signature_is_that_of_the_rfc():
    # RFC 8032, section 7.1, test 1: the public key of a known private one.
    private = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    made = sign(private, b"{}")
    assert made.key.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert right(made, b"{}")
    assert made == sign(private, b"{}")


def test_the_signature_of_the_bare_bytes_is_none_of_a_manifest():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    bare = Ed25519PrivateKey.from_private_bytes(PRIVATE).sign(b"manifest")
    assert not right(Signature(sign(PRIVATE, b"").key, bare), b"manifest")


def test_signing_adds_signatures_and_keeps_the_others(alice):
    members = container.payloads(alice)
    before = alice.read_bytes()
    second = add_signature(alice, lambda manifest: sign(OTHER, manifest))
    assert set(signers(alice)) == {sign(PRIVATE, b"").key, second}
    assert container.payloads(alice) == members
    add_signature(alice, lambda manifest: sign(PRIVATE, manifest))
    assert len(signers(alice)) == 2
    assert [path.name for path in alice.parent.glob(".partial*")] == []
    assert alice.read_bytes() != before


def test_a_changed_byte_is_found_anywhere(alice):
    data = alice.read_bytes()
    key = sign(PRIVATE, b"").key
    edges = {edge for one in container.payloads(alice) for edge in (one.offset, one.offset + one.size)}
    near = {edge + step for edge in edges for step in (-31, -2, -1, 0, 1, 15)}  # headers, first and last bytes
    spots = {*range(0, len(data), 997), *range(0, 2500, 17), *range(len(data) - 1200, len(data), 5), *near}
    missed = []
    for spot in sorted(spots):
        alice.write_bytes(data[:spot] + bytes([data[spot] ^ 1]) + data[spot + 1 :])
        try:
            if key in signers(alice) and not container.damage(alice):
                missed.append(spot)
        except ArtifactError:
            pass
    assert len(spots) > 400
    assert missed == []


def test_a_signature_of_another_manifest_is_refused(tmp_path, alice):
    other = renamed(alice, tmp_path / "bob.gsv", name="bob")
    container.with_signature(other, container.signature(alice), other, force=True)
    with pytest.raises(ArtifactError, match="wrongly signed"):
        signers(other)
    with pytest.raises(ArtifactError, match="wrongly signed"):
        add_signature(other, lambda manifest: sign(OTHER, manifest))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schema": 1, "ed25519": []}\n',
        b"[" * 5000,
        b'{"schema":1,"ed25519":[{"key":1,"signature":2}]}',
        b"x" * 20_000,
    ],
)
def test_signatures_that_are_none_are_refused(data):
    with pytest.raises(ArtifactError, match="signatures"):
        from_bytes(data, "alice.gsv")


def test_signatures_are_stored_in_one_form_only():
    data = to_bytes([sign(PRIVATE, b"m")])
    assert checked(data, b"m", "x") == (sign(PRIVATE, b"m").key,)
    with pytest.raises(ArtifactError, match="canonical"):
        from_bytes(data.replace(b"  ", b" "), "x")
    value = json.loads(data)
    value["ed25519"] *= 2
    with pytest.raises(ArtifactError, match="canonical"):
        from_bytes((json.dumps(value, indent=2, sort_keys=True) + "\n").encode(), "x")
    with pytest.raises(InputError, match="too many"):
        to_bytes(Signature(PublicKey(bytes([number]) * 32), bytes(64)) for number in range(MOST + 1))


def test_a_damaged_artifact_is_not_signed(alice):
    data = bytearray(alice.read_bytes())
    data[container.payloads(alice)[0].offset] ^= 1
    alice.write_bytes(data)
    with pytest.raises(ArtifactError, match="is not signed"):
        add_signature(alice, lambda manifest: sign(OTHER, manifest))


def test_a_new_key_is_its_owners_alone_and_trusted(capfd):
    made = keys.new_key("release")
    path = keys.private_file("release")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert keys.trusted_keys() == (made,)
    with pytest.raises(InputError, match="another trusted key"):
        keys.new_key("release")
    keys.distrust("release")
    with pytest.raises(InputError, match="exists already"):
        keys.new_key("release")
    assert keys.sign_with("release", b"m").key == made.key


def test_a_private_key_that_others_can_read_is_not_used():
    keys.new_key("release")
    keys.private_file("release").chmod(0o640)
    with pytest.raises(EnvironmentProblem, match="mode 640") as caught:
        keys.sign_with("release", b"m")
    assert "chmod 600" in str(caught.value)


def test_keys_are_trusted_by_file_line_or_base64(key, tmp_path):
    other = sign(OTHER, b"").key
    line = keys.TrustedKey("other", other).line
    (tmp_path / "other.pub").write_text(f"# from the web page\n{line}\n")
    assert keys.public_key(str(tmp_path / "other.pub")).key == other
    assert keys.public_key(other.text).key == other
    assert keys.public_key("maker") == key
    keys.trust(keys.TrustedKey("other", other))
    with pytest.raises(InputError, match="another trusted key is called maker"):
        keys.trust(keys.TrustedKey("maker", other))
    assert keys.distrust(other.id).name == "other"
    with pytest.raises(InputError, match="no trusted key"):
        keys.distrust("other")
    with pytest.raises(InputError, match="neither a trusted key"):
        keys.public_key("nobody")


def test_a_broken_file_of_trusted_keys_names_every_line(key):
    keys.trusted_file().write_text(f"{key.line}\nrsa abc x\ned25519 AAAA short\n{key.line}\n")
    with pytest.raises(InputError) as caught:
        keys.trusted_keys()
    assert [problem[:7] for problem in caught.value.problems] == ["line 2:", "line 3:", "2 keys "]


def test_a_folder_of_keys_that_cannot_be_made_is_an_error_of_the_machine(tmp_path, monkeypatch):
    (tmp_path / "a-file").write_bytes(b"")
    monkeypatch.setenv("GSVEXPORT_CONFIG", str(tmp_path / "a-file" / "below"))
    with pytest.raises(EnvironmentProblem):
        keys.new_key("release")


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a/b", "x" * 65, "a b"])
def test_a_key_has_a_plain_name(name):
    with pytest.raises(InputError, match="no name for a key"):
        keys.new_key(name)


def test_the_command_line_makes_keys_signs_and_checks(tmp_path, capfd):
    path = make_artifact(tmp_path, signed=False)
    assert run(["key", "new", "release"]) == 0
    public = capfd.readouterr().out.strip()
    assert public.startswith("ed25519 ")
    assert run(["inspect", str(path)]) == 0
    assert "not signed" in capfd.readouterr().out
    assert run(["sign", str(path), "--key", "nobody"]) == 2
    assert "known: release" in capfd.readouterr().err
    assert run(["sign", str(path), "--key", "release"]) == 0
    assert "signed by release" in capfd.readouterr().out
    assert run(["key", "remove", "release"]) == 0
    assert run(["inspect", str(path)]) == 0
    assert "not trusted here" in capfd.readouterr().out
    assert run(["key", "trust", public]) == 0
    assert run(["key", "list"]) == 0
    said = capfd.readouterr().out
    assert "release" in said
    assert "signs" in said
    assert run(["key", "trust", public.split()[1]]) == 2  # needs a name
    assert run(["verify", str(path), "--key", sign(OTHER, b"").key.text]) == 6
    assert "is not signed by" in capfd.readouterr().err
    private = keys.private_file("release").read_text().splitlines()[1]
    assert private not in said + public


def test_without_the_package_it_says_what_to_install(alice):
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pathlib import Path\nfrom gsvexport.cli.keys import signed_by\n"
        f"print(signed_by(Path({str(alice)!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert "not checked" in done.stdout
    assert "pip install cryptography" in done.stdout
