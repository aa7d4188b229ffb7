"""The layer through which files are read and written: whole or not at all, with checksums, errors as sentences."""

import glob
import hashlib
import json
import os
import platform
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from gfm.errors import InputError, UnreadableFileError

__all__ = ["canonical", "check_archive", "digest_of", "locked", "parse_yaml", "read_json", "read_sealed", "read_yaml",
           "replacing", "sha", "understood", "write_bytes", "write_json", "write_sealed", "write_text", "writing"]

_SEAL = b"\nsha256:"
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"  # in partial files: only this machine's are removed
_MOST_UNPACKED, _MOST_RATIO, _MOST_NESTED = 1 << 30, 100, 100


# -- writing -------------------------------------------------------------------------------------
@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context in which errors of the system become a sentence about ``path``.

    Raises:
        InputError: The path cannot be written to.
    """
    try:
        yield
    except UnreadableFileError:  # an OSError too, but about what was read
        raise
    except (OSError, RuntimeError) as caught:
        error = caught if isinstance(caught, OSError) else caught.__context__  # torch's own error only tells a position
        if not isinstance(error, OSError):
            raise
        why = error.strerror or str(error) or type(error).__name__
        raise InputError(f"{path} cannot be written ({why}): make room, or name another place.") from caught


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context that gives a temporary path next to ``path`` to write to, and moves it to ``path`` at the end.

    If the block raises an error, ``path`` is unchanged and the temporary path is removed; one that a killed process
    left behind is removed when the same path is written again. The folder is created if necessary.

    After a power cut ``path`` is what it was or what was written, not an empty file: the contents are on the disk
    before the name is (0.1 ms for 100 kB, 15 ms per MB of a large file, on a virtual disk). The name itself may be
    lost, if the power fails within seconds.

    Yields:
        The temporary path, for a file or a folder; a folder can only replace an empty folder.

    Raises:
        InputError: The path cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{uuid4().hex[:8]}.partial")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path)
            yield partial
            _settle(partial)
            os.replace(partial, path)
        finally:
            with suppress(OSError):  # if the path cannot be inspected, its error has been raised already
                _remove(partial)


def _settle(path: Path) -> None:
    """Wait until the contents of a file, or of all files in a folder, are on the disk."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def _sweep(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.{_HOST}-*.partial"):
        found = re.search(r"-(\d+)-\w{8}\.partial$", left.name)
        if found and not _alive(int(found[1])):
            _remove(left)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically.

    Raises:
        InputError: The path cannot be written to.
    """
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) atomically; raises as :func:`write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data as JSON with their checksum, to be read with ``read_json(path, ..., sealed=True)``."""
    content = {**content, "checksum": sha(canonical(content))}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_sealed(path: Path, data: bytes) -> None:
    """Write bytes followed by their checksum, to be read with :func:`read_sealed`."""
    write_bytes(path, data + _SEAL + sha(data).encode())


@contextmanager
def locked(path: Path, what: Path | None = None, given_up: Callable[[], bool] | None = None) -> Iterator[None]:
    """Context that one process at a time can be in; the system releases the lock if its holder dies.

    Args:
        path: the lock's file.
        what: the folder that it guards, for messages; by default the lock's own.
        given_up: called repeatedly while another process holds the lock; if it is true, waiting ends.

    Raises:
        InputError: No lock can be made at ``path``, or waiting was given up.
    """
    with ExitStack() as held:
        with writing(what or path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(str(path)).acquire(cancel_check=given_up))
        yield


# -- reading -------------------------------------------------------------------------------------
@contextmanager
def understood(say: Callable[[str], str]) -> Iterator[None]:
    """Context in which any error that a library raises for a broken file becomes a sentence.

    Args:
        say: gives the sentence from the reason.

    Raises:
        UnreadableFileError: The block raised an error.
    """
    try:
        yield
    except Exception as error:  # libraries raise many kinds of errors, including RecursionError and MemoryError
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if "allow_pickle" in told:  # NumPy's advice on anything that is no array, also on plain text
            told = "it holds no plain arrays"
        raise UnreadableFileError(say((told.strip() or type(error).__name__).partition("\n")[0].rstrip("."))) from error


def read_json(path: Path, what: str, sealed: bool = False) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        what: what it should be ("a notebook"), for messages.
        sealed: whether :func:`write_json` wrote it; the checksum is verified and left out.

    Raises:
        UnreadableFileError: It is missing, no JSON, or not as it was written.
    """
    with understood(lambda why: f"{path.name} is not {what} ({why})."):
        content = json.loads(path.read_text(encoding="utf-8"))
        if sealed:
            if not isinstance(content, dict) or content.pop("checksum", None) != sha(canonical(content)):
                raise ValueError("it does not match its checksum")
        return content


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as :func:`parse_yaml` reads it.

    Raises:
        UnreadableFileError: It is missing, no YAML, or has aliases.
    """
    with understood(lambda why: f"{path} cannot be read ({why})."):
        return parse_yaml(path.read_text(encoding="utf-8"))


def read_sealed(path: Path) -> bytes:
    """What :func:`write_sealed` wrote.

    Raises:
        UnreadableFileError: The file is missing or not as it was written.
    """
    with understood(lambda why: f"{path} cannot be read ({why})."):
        data, _, seal = path.read_bytes().rpartition(_SEAL)
        if seal != sha(data).encode():
            raise ValueError("it does not match its checksum")
        return data


def check_archive(file: Any, whole: bool = False) -> None:
    """Look at a ZIP archive before a library unpacks it.

    Args:
        file: its path, or an open file; a file that is not a ZIP archive is left to the library.
        whole: verify the checksum of every member, for libraries that do not.

    Raises:
        ValueError: It unpacks to gigabytes, many times its own size.
        BadZipFile: A member does not match its checksum.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        packed = sum(member.compress_size for member in archive.infolist())
        if unpacked > _MOST_UNPACKED and unpacked > _MOST_RATIO * packed:
            raise ValueError(f"it would unpack {packed / 1e6:.1f} MB to {unpacked / 1e9:.0f} GB")
        for member in archive.infolist() if whole else ():
            if member.CRC == 0 and member.file_size:  # torch can be told to leave checksums out
                continue
            with archive.open(member) as stream:
                while stream.read(1 << 20):
                    pass


def parse_yaml(text: str) -> Any:
    """The content of a YAML text.

    Aliases are refused, since a few nested ones can stand for gigabytes; so is deep nesting, which crashes the parser.

    Raises:
        ValueError: It is not YAML, or uses what is refused.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where PyYAML has it
    depth = 0
    try:
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"it uses the alias *{event.anchor}: write out what that stands for")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_NESTED:
                raise ValueError(f"it is nested more than {_MOST_NESTED} levels deep")
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {' '.join(str(error).split())}") from error


# -- checksums -----------------------------------------------------------------------------------
def canonical(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """The value as JSON in a canonical form, so that equal values have equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=default)


def sha(data: str | bytes) -> str:
    """The SHA-256 digest of the data, in hexadecimal."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def digest_of(path: Path) -> str:
    """The SHA-256 digest of a file; '' if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
