"""The user's keys: private ones to sign with, and the public ones that are trusted.

    CONFIG/keys/NAME.pem     a private key (PKCS #8), for its owner's eyes alone
    CONFIG/trusted-keys      one line for each trusted key: ed25519 BASE64 NAME; lines with # are comments

CONFIG is `GSVEXPORT_CONFIG`, else `XDG_CONFIG_HOME/gsvexport`, else `~/.config/gsvexport`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.artifact.signature import Claim, PublicKey, Signature, sign
from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.files import atomic_file, disk_errors, home_directory
from gsvexport.system.names import refused
from gsvexport.untrusted.reading import lines, read_bytes, read_text, why

_KIND = "ed25519"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_LARGEST = 1 << 20  # bytes of a file with keys
_OTHERS = 0o077


@dataclass(frozen=True)
class TrustedKey:
    """A public key and the name that the user gave it."""

    name: str
    key: PublicKey

    @property
    def line(self) -> str:
        """As it stands in a file."""
        return f"{_KIND} {self.key.text} {self.name}"


def config_directory() -> Path:
    """Where a user's keys are.

    Raises:
        EnvironmentProblem: there is no home, and no variable that names a folder.
    """
    return home_directory("GSVEXPORT_CONFIG", "XDG_CONFIG_HOME", ".config")


def trusted_file() -> Path:
    """The user's file of trusted keys."""
    return config_directory() / "trusted-keys"


def trusted_keys(file: Path | None = None) -> tuple[TrustedKey, ...]:
    """The keys in a file, the user's own unless one is named; none where there is no such file.

    Raises:
        InputError: a line is not `ed25519 BASE64 NAME`, or two have one name; names all of them.
        EnvironmentProblem: the file cannot be read.
    """
    file = file or trusted_file()
    try:
        text = read_text(file, _LARGEST)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(
            f"{file} {why(error)}", fix=f"{file} holds a key a line: ed25519 BASE64 NAME"
        ) from error
    found: list[TrustedKey] = []
    problems: list[str] = []
    for number, line in enumerate(lines(text), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(_parsed(line))
            except ValueError as error:
                problems.append(f"line {number}: {error}")
    names = [one.name for one in found]
    problems += [f"{names.count(name)} keys are called {name}" for name in sorted({*names}) if names.count(name) > 1]
    if problems:
        raise InputError(f"{file} cannot be used", problems=problems, fix=f"correct {file}")
    return tuple(found)


def trust(one: TrustedKey) -> None:
    """Add a key to the trusted ones; a key that is there already gets the new name.

    Raises:
        InputError: another trusted key has that name, or it is no name.
        EnvironmentProblem: the file cannot be written.
    """
    _check_name(one.name)
    kept = [other for other in trusted_keys() if other.key != one.key]
    if any(other.name == one.name for other in kept):
        raise InputError(
            f"another trusted key is called {one.name}", fix=f"choose --name, or gsvexport key remove {one.name}"
        )
    _write([*kept, one])


def distrust(name: str) -> TrustedKey:
    """Take the key with that name, or that key id, from the trusted ones. Its private key stays.

    Raises:
        InputError: no such key is trusted.
    """
    keys = trusted_keys()
    if not (gone := [one for one in keys if name in (one.name, one.key.id)]):
        raise InputError(f"no trusted key is called {name}", limit=_known(keys), fix="gsvexport key list shows them")
    _write([one for one in keys if one not in gone])
    return gone[0]


def new_key(name: str) -> TrustedKey:
    """Make a private key that only its owner can read, and trust its public one.

    Raises:
        InputError: a key has that name already.
        EnvironmentProblem: the folder cannot be written, or the package for signatures is not installed.
    """
    _check_name(name)
    serial = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    one = TrustedKey(name, PublicKey(private.public_key().public_bytes_raw()))
    if any(other.name == name for other in trusted_keys()):
        raise InputError(f"another trusted key is called {name}", fix="choose another name")
    text = private.private_bytes(serial.Encoding.PEM, serial.PrivateFormat.PKCS8, serial.NoEncryption())
    path = private_file(name)
    with disk_errors(path):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:  # a file in the way, or such as /proc
            raise EnvironmentProblem(f"{path.parent} cannot be made: {error}", fix="set GSVEXPORT_CONFIG") from error
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise InputError(f"{path} exists already", fix="choose another name") from None
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(handle)
            trust(one)
        except BaseException:  # a full disk, say: an empty file would keep the name for ever
            path.unlink(missing_ok=True)
            raise
    return one


def private_file(name: str) -> Path:
    """Where the private key of that name is."""
    return config_directory() / "keys" / f"{name}.pem"


def private_names() -> list[str]:
    """The names of the private keys that are here."""
    return sorted(path.stem for path in (config_directory() / "keys").glob("*.pem"))


def sign_with(name: str, manifest: bytes, claim: Claim | None = None) -> Signature:
    """Sign a manifest with the private key of that name.

    Raises:
        InputError: there is no such key.
        EnvironmentProblem: it cannot be read, others can read it, or it is no ed25519 key.
    """
    _check_name(name)
    path = private_file(name)
    try:
        if os.name == "posix" and path.stat().st_mode & _OTHERS:
            raise EnvironmentProblem(
                f"{path} can be read by others, so it is not used",
                found=f"mode {path.stat().st_mode & 0o777:o}",
                limit="mode 600",
                fix=f"chmod 600 {path}; if others had access, make a new key",
            )
        data = read_bytes(path, _LARGEST)
    except FileNotFoundError:
        known = ", ".join(private_names()) or "none"
        raise InputError(
            f"there is no private key '{name}'", limit=f"known: {known}", fix=f"gsvexport key new {name}"
        ) from None
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(f"{path} {why(error)}") from error
    serial = _serialization()
    try:
        raw = serial.load_pem_private_key(data, None).private_bytes_raw()
    except (ValueError, TypeError, AttributeError) as error:
        raise EnvironmentProblem(f"{path} is not an ed25519 private key: {type(error).__name__}") from error
    return sign(raw, manifest, claim)


def public_key(given: str | Path | PublicKey | TrustedKey) -> TrustedKey:
    """The public key that is meant: the name of a trusted one, a file with one line as above, or base64.

    Raises:
        InputError: it is none of them, or the file has several keys.
    """
    if isinstance(given, TrustedKey):
        return given
    if isinstance(given, PublicKey):
        return TrustedKey(given.id, given)
    given = str(given)
    for one in trusted_keys():
        if given in (one.name, one.key.id):
            return one
    if os.path.isfile(given):
        keys = trusted_keys(Path(given))
        if len(keys) != 1:
            raise InputError(f"{given} holds {len(keys)} public keys; one is wanted")
        return keys[0]
    try:
        key = PublicKey.from_text(given)
    except ValueError:
        raise InputError(
            f"'{given[:80]}' is neither a trusted key, nor a file with a public key, nor one in base64",
            limit=_known(trusted_keys()),
            fix="gsvexport key list shows the trusted ones",
        ) from None
    return TrustedKey(key.id, key)


def _write(keys: list[TrustedKey]) -> None:
    """Replace the trusted keys; comments go."""
    file = trusted_file()
    with atomic_file(file, force=True) as work:
        work.write_bytes("".join(f"{one.line}\n" for one in keys).encode())


def _parsed(line: str) -> TrustedKey:
    words = line.split()
    if len(words) != 3 or words[0] != _KIND or not _NAME.fullmatch(words[2]):
        raise ValueError(f"not '{_KIND} BASE64 NAME'")
    return TrustedKey(words[2], PublicKey.from_text(words[1]))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!a} is no name for a key", limit="1 to 64 letters, digits, '.', '_' and '-'")
    if why := refused(name):
        raise InputError(f"{name!a} {why}, so no key is called so", fix="choose another name")


def _known(keys: tuple[TrustedKey, ...]) -> str:
    return f"trusted: {', '.join(one.name for one in keys) or 'none'} ({trusted_file()})"


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise EnvironmentProblem(
            "keys need the package 'cryptography', which is not installed", fix="pip install cryptography"
        ) from None
    return serialization
