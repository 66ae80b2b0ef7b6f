"""Whose artifact it is, which version, and whose code it carries."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from artifacts import copied, repacked

from gsvexport import cli
from gsvexport.artifact import container, keys
from gsvexport.artifact.signature import (
    _SMALL,
    Claim,
    PublicKey,
    Signature,
    add_signature,
    checked,
    from_bytes,
    right,
    sign,
    to_bytes,
)
from gsvexport.artifact.trust import prove
from gsvexport.backends import carriage
from gsvexport.backends.carried import code
from gsvexport.backends.tensorrt import finalize
from gsvexport.compiler.pack import intact
from gsvexport.device.unpack import unpack_to
from gsvexport.errors import ArtifactError, InputError
from gsvexport.runtime.pipeline import load

OURS, THEIRS = bytes(range(32)), bytes(range(1, 33))
PRIME = 2**255 - 19


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def maker():
    one = keys.TrustedKey("maker", sign(OURS, b"").key)
    keys.trust(one)
    return one


@pytest.fixture
def artifact(subject, tmp_path):
    return Path(shutil.copyfile(subject.artifact, tmp_path / "a.gsv"))


@pytest.fixture
def with_code(subject, tmp_path):
    """The subject said to be for TensorRT, with the code that such artifacts carry; and its files."""
    files = copied(subject.files, tmp_path / "files")
    for name, path in finalize.carried().items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, files / name)
    stages = {name: replace(entry, backend="tensorrt") for name, entry in container.read_manifest(files).stages.items()}
    return repacked(files, tmp_path / "coded.gsv", stages=stages), files


def refused(capsys, *arguments):
    code = cli.run([str(one) for one in arguments])
    message = capsys.readouterr().err
    assert "defect" not in message
    return code, message


def test_the_weak_keys_are_the_points_of_small_order():
    d = -121665 * pow(121666, PRIME - 2, PRIME) % PRIME

    def add(one, other):
        (a, b), (c, e) = one, other
        product = d * a * b * c * e % PRIME
        return (
            (a * e + c * b) * pow(1 + product, PRIME - 2, PRIME) % PRIME,
            (b * e + a * c) * pow(1 - product, PRIME - 2, PRIME) % PRIME,
        )

    for y in _SMALL:
        square = (y * y - 1) * pow(d * y * y + 1, PRIME - 2, PRIME) % PRIME
        x = pow(square, (PRIME + 3) // 8, PRIME)
        x = x if (x * x - square) % PRIME == 0 else x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
        point = (x, y)
        for _ in range(3):
            point = add(point, point)
        assert point == (0, 1)


@pytest.mark.parametrize("y", [0, 1, PRIME - 1, PRIME, PRIME + 1, *sorted(_SMALL)[2:4]])
@pytest.mark.parametrize("sign_bit", [0, 1])
def test_a_key_of_small_order_is_no_key(y, sign_bit):
    raw = (y | sign_bit << 255).to_bytes(32, "little")
    assert PublicKey(raw).weak
    with pytest.raises(ValueError, match="small order"):
        PublicKey.from_text(PublicKey(raw).text)
    with pytest.raises(InputError):
        keys.public_key(PublicKey(raw).text)
    # The identity's own signature: R = A = 1 and S = 0 verify for every message.
    assert not right(Signature(PublicKey(raw), bytes([1, *bytes(63)])), b"anything")


def test_a_wrong_or_foreign_signature_beside_a_right_one_blocks_nobody(artifact, maker):
    manifest = container.manifest_bytes(artifact)
    weak = Signature(PublicKey(bytes([1, *bytes(31)])), bytes([1, *bytes(63)]))
    wrong = replace(sign(THEIRS, b"another"), claim=None)
    data = to_bytes([sign(OURS, manifest), wrong, weak])
    assert checked(data, manifest, "a.gsv") == (maker.key,)
    container.with_signature(artifact, data, artifact, force=True)
    assert prove(artifact, "maker").keys == (maker.key,)
    add_signature(artifact, lambda text: sign(THEIRS, text))
    assert set(prove(artifact).keys) == {maker.key, sign(THEIRS, b"").key}


def test_signatures_that_are_all_wrong_are_refused_by_every_command(artifact, subject, tmp_path, capsys, maker):
    data = to_bytes([sign(OURS, b"another manifest")])
    container.with_signature(artifact, data, artifact, force=True)
    folder = tmp_path / "folder"
    shutil.copytree(subject.files, folder)
    (folder / "signature.json").write_bytes(data)
    with pytest.raises(ArtifactError, match="wrongly signed"):
        load(artifact)
    with pytest.raises(ArtifactError, match="wrongly signed"):
        load(folder)
    for number, arguments in enumerate(
        [
            ["say", artifact, "Hello", "-o", tmp_path / "o.wav"],
            ["say", folder, "Hello", "-o", tmp_path / "o.wav"],
            ["bench", artifact],
            ["verify", artifact],
            ["inspect", artifact],
            ["inspect", artifact, "--json"],
            ["inspect", artifact, "--html", tmp_path / "o.html"],
            ["compare", artifact, subject.artifact],
            ["compare", subject.artifact, artifact],
            ["verify", subject.artifact, "--against", artifact],
            ["unpack", artifact, "-o", tmp_path / "o"],
            ["finalize", artifact],
            ["bake", artifact, "--reference", subject.voice / "reference.wav", "-o", tmp_path / "o.gsv"],
            ["publish", artifact, tmp_path / "repository"],
            ["sign", artifact, "--key", "release"],
        ]
    ):
        if number == 14:
            keys.new_key("release")
        if number == 9:
            continue  # the baseline is looked at after a whole verification
        exit_code, message = refused(capsys, *arguments)
        assert (exit_code, "wrongly signed" in message) == (6, True), (arguments, message)
    assert not list(tmp_path.glob("o*"))


def test_a_key_that_is_asked_for_has_to_have_signed(artifact, tmp_path, capsys, maker):
    other = sign(THEIRS, b"").key.text
    add_signature(artifact, lambda text: sign(OURS, text))
    with load(artifact, key="maker") as voice:
        assert voice.stages
    for key in (maker, maker.key, maker.key.text):
        load(artifact, key=key).close()
    with pytest.raises(ArtifactError, match="is not signed by"):
        load(artifact, key=other)
    for command in ("say", "bench", "unpack", "finalize", "verify"):
        more = {"say": ["x", "-o", tmp_path / "o.wav"], "unpack": ["-o", tmp_path / "o"]}.get(command, [])
        exit_code, message = refused(capsys, command, artifact, *more, "--key", other)
        assert (exit_code, "is not signed by" in message) == (6, True), (command, message)
    with pytest.raises(InputError):
        load(artifact, key="nobody")


def test_what_was_checked_is_what_is_used(subject, artifact, tmp_path, maker, monkeypatch):
    """The file is replaced between the check and the use."""
    files = copied(subject.files, tmp_path / "files")
    (files / "NOTICE").write_text("another one")
    other = repacked(files, tmp_path / "b.gsv")
    add_signature(artifact, lambda text: sign(OURS, text))
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    real = container.unpacked

    def late(path, text=None):
        shutil.copyfile(other, artifact)
        return real(path, text)

    monkeypatch.setattr(container, "unpacked", late)
    with pytest.raises(ArtifactError, match="was replaced while it was read"):
        load(artifact, key="maker")


def test_a_claim_is_signed_with_the_manifest():
    claim = Claim("alice", "1.2.0", "2026-11-29T12:00:00Z")
    made = sign(OURS, b"manifest", claim)
    assert right(made, b"manifest")
    assert not right(replace(made, claim=None), b"manifest")
    assert not right(replace(made, claim=replace(claim, version="1.3.0")), b"manifest")
    assert not right(replace(sign(OURS, b"manifest"), claim=claim), b"manifest")
    [back] = from_bytes(to_bytes([made]), "x")
    assert back == made
    for wrong in (("alice", "v1", claim.time), ("alice", "1", "today"), ("a" * 201, "1", claim.time), (1, "1", "")):
        with pytest.raises(ValueError, match="not the name"):
            Claim(*wrong)


# Carried code


@pytest.mark.parametrize("name", ["finalize.py", "gsvexport/backends/tensorrt/plans.py", "gsvexport/__init__.py"])
def test_changed_code_is_told_by_every_command_that_could_hand_it_on(with_code, tmp_path, capsys, name):
    _, files = with_code
    (files / name).write_text((files / name).read_text() + "\nimport os\n")
    changed = repacked(files, tmp_path / "changed.gsv")
    for arguments in (
        ["verify", changed, "--any-machine"],
        ["inspect", changed],
        ["unpack", changed, "-o", tmp_path / "o", "--allow-unsigned"],
        ["finalize", changed, "--any-machine"],
    ):
        exit_code, message = refused(capsys, *arguments)
        assert (exit_code, "carried code differs" in message, name in message) == (6, True, True), message
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["numpy.py", "numpy/__init__.py", "json.pyc", "_ctypes.so", "run.sh", "X.PY"])
@pytest.mark.parametrize("coded", [True, False])
def test_code_that_no_release_carries_is_told_too(subject, with_code, tmp_path, name, coded):
    files = with_code[1] if coded else copied(subject.files, tmp_path / "plain")
    (files / name).parent.mkdir(exist_ok=True)
    (files / name).write_text("print('owned')\n")
    with pytest.raises(ArtifactError, match="carried code differs") as caught:
        intact(repacked(files, tmp_path / "changed.gsv"))
    assert name in str(caught.value)


def test_code_of_another_release_cannot_be_proven(with_code, tmp_path, capsys):
    path, files = with_code
    tools = container.read_manifest(path).tools | {"gsvexport": "0.0.1"}
    (files / "finalize.py").write_text("print()\n")
    older = repacked(files, tmp_path / "older.gsv", tools=tools)
    assert cli.run(["inspect", str(older)]) == 0
    assert "cannot be compared" in capsys.readouterr().out
    with pytest.raises(ArtifactError, match="is not signed"):
        unpack_to(older, tmp_path / "o")


def test_unsigned_code_is_unpacked_only_when_that_is_allowed(with_code, tmp_path, capsys, maker):
    path, _ = with_code
    exit_code, message = refused(capsys, "unpack", path, "-o", tmp_path / "o")
    assert exit_code == 6
    assert "--allow-unsigned" in message
    assert not (tmp_path / "o").exists()
    assert cli.run(["unpack", str(path), "-o", str(tmp_path / "o"), "--allow-unsigned"]) == 0
    add_signature(path, lambda text: sign(OURS, text))
    unpack_to(path, tmp_path / "signed")
    keys.distrust("maker")
    with pytest.raises(ArtifactError, match="nobody whom you trust"):
        unpack_to(path, tmp_path / "untrusted")
    unpack_to(path, tmp_path / "named", key=maker.key.text)


def test_what_carries_no_code_is_unpacked_as_before(artifact, tmp_path):
    unpack_to(artifact, tmp_path / "o")


def test_inspect_lists_sums_that_sha256sum_takes(with_code, tmp_path, capsys):
    path, files = with_code
    assert cli.run(["inspect", str(path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:3].strip() and len(line.split()) == 2]
    sums = [line for line in lines if len(line.split()[0]) == 64]
    assert (
        [line.split()[1] for line in sums]
        == sorted(carriage("tensorrt").carried())
        == list(code(container.read_manifest(path)))
    )
    (files / "SUMS").write_text("\n".join(sums) + "\n")
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "SUMS"], cwd=files, check=True, capture_output=True)
