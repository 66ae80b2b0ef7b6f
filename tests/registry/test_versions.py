"""Who vouches for a version, and what an old one, or a stranger's signature, can do."""

import json

import pytest
from published import PRIVATE, make_artifact

from gsvexport.artifact.signature import Claim, PublicKey, Signature, add_signature, sign, to_bytes
from gsvexport.cli import run
from gsvexport.errors import ArtifactError, EnvironmentProblem, InputError
from gsvexport.files import sha256_bytes
from gsvexport.registry import history
from gsvexport.registry.index import published, signature_path
from gsvexport.registry.places import FolderPlace
from gsvexport.registry.publish import publish
from gsvexport.registry.pull import pull

STRANGER = bytes(range(1, 33))


def claiming(path, version, name="alice"):
    claim = Claim(name, version, "2026-11-29T12:00:00Z")
    add_signature(path, lambda text: sign(PRIVATE, text, claim))
    return path


def entry(place, version):
    return next(item for item in published(place) if item.entry.version == version)


def test_the_version_is_the_repositorys_word_unless_it_is_signed(place, alice, key, tmp_path):
    publish([alice], place, version="1")
    done = pull(place, entry(place, "1"), tmp_path / "1.gsv", (key,))
    assert "the repository's word" in done.word
    publish([claiming(make_artifact(tmp_path / "2", own=b"2"), "2.1")], place)
    done = pull(place, entry(place, "2.1"), tmp_path / "2.gsv", (key,))
    assert done.word == "version 2.1, signed by maker at 2026-11-29T12:00:00Z"


def test_what_is_signed_as_one_version_is_not_taken_as_another(place, root, key, tmp_path):
    publish([claiming(make_artifact(tmp_path / "1"), "1.0")], place)
    row = json.loads((root / "entries/alice/x86-64/1.0.json").read_text())
    (root / "entries/alice/x86-64/9.9.json").write_text(json.dumps({**row, "version": "9.9"}))
    with pytest.raises(ArtifactError, match="signed as something else"):
        pull(place, entry(place, "9.9"), tmp_path / "out.gsv", (key,))


def test_publish_takes_the_signed_version_and_no_other(place, tmp_path):
    path = claiming(make_artifact(tmp_path / "1"), "3.1")
    with pytest.raises(InputError, match=r"is signed as version 3\.1"):
        publish([path], place, version="4")
    assert publish([path], place)[0].entry.version == "3.1"


def test_an_older_one_is_refused_once_a_newer_one_was_pulled(place, root, key, tmp_path, capfd):
    for version in ("1", "2"):
        publish([make_artifact(tmp_path / version, own=version.encode())], place, version=version)
    pull(place, entry(place, "2"), tmp_path / "2.gsv", (key,))
    (root / "entries/alice/x86-64/2.json").unlink()  # the repository takes it back, or somebody plays an old index
    with pytest.raises(ArtifactError, match="older than what was pulled before") as caught:
        pull(place, entry(place, "1"), tmp_path / "1.gsv", (key,))
    assert "--allow-older" in str(caught.value)
    command = ["pull", str(root), "alice", "--target", "x86-64", "-o", str(tmp_path / "1.gsv")]
    assert run(command) == 6
    assert run([*command, "--allow-older"]) == 0
    assert run([*command, "--force"]) == 6  # the newest that is known stays what it was
    assert "limit: version 2" in capfd.readouterr().err


def test_a_signed_version_is_remembered_wherever_it_came_from(place, key, tmp_path):
    publish([claiming(make_artifact(tmp_path / "2", own=b"2"), "2")], place)
    pull(place, entry(place, "2"), tmp_path / "2.gsv", (key,))
    mirror = FolderPlace(tmp_path / "mirror")
    publish([claiming(make_artifact(tmp_path / "1", own=b"1"), "1")], mirror)
    with pytest.raises(ArtifactError, match="older"):
        pull(mirror, entry(mirror, "1"), tmp_path / "1.gsv", (key,))


def test_another_voice_or_target_has_versions_of_its_own(place, key, tmp_path):
    publish([make_artifact(tmp_path / "a")], place, version="5")
    publish([make_artifact(tmp_path / "b", "bob"), make_artifact(tmp_path / "c", target="other")], place, version="1")
    for item in published(place):
        pull(place, item, tmp_path / f"{item.entry.name}-{item.entry.target}.gsv", (key,))


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1, "greatest": {"x": "v"}}', '{"schema": 2}', "\0"])
def test_a_broken_note_of_what_was_pulled_is_named(home, text):
    (home / "config").mkdir()
    (home / "config" / history.FILE).write_text(text)
    with pytest.raises(EnvironmentProblem, match=r"pulled\.json"):
        history.refuse_older(history.Line("p", "n", "t"), "1", "x", allowed=False)


def test_signatures_of_strangers_in_a_repository_block_nobody(place, root, alice, key, tmp_path):
    [done] = publish([alice], place)
    weak = PublicKey(bytes([1, *bytes(31)]))
    wrong = sign(STRANGER, b"another manifest")
    for stranger, data in (
        (wrong.key.id, to_bytes([wrong])),
        (weak.id, to_bytes([Signature(weak, bytes([1, *bytes(63)]))])),
        ("0" * 16, b"no signatures at all"),
        ("1" * 16, b"[" * 10_000),
        *(
            (f"{number:016x}", to_bytes([sign(sha256_bytes(b"%d" % number).encode()[:32], b"?")]))
            for number in range(99)
        ),
    ):
        (root / signature_path(done.entry.manifest, stranger)).write_bytes(data)
    [item] = published(place)
    assert len(item.signed) > 90
    found = pull(place, item, tmp_path / "out.gsv", (key,))
    assert found.keys == (key.key,)
    (root / signature_path(done.entry.manifest, key.key.id)).unlink()
    [item] = published(place)
    with pytest.raises(ArtifactError, match="wrongly signed"):
        pull(place, item, tmp_path / "none.gsv", (key,), allow_unsigned=True)
