"""A static host for tests: a folder served on loopback, as it is."""

import contextlib
import functools
import hashlib
import http.server
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

__all__ = ["fetched", "serving", "sums_of"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address at which ``folder`` is served meanwhile."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    server.handle_error = lambda *request: None  # a page that is closed while it loads breaks the pipe
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def fetched(address: str) -> bytes:
    """What a host answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=30) as answer:
        return answer.read()


def sums_of(folder: Path, sums: str) -> dict[str, str]:
    """Name -> checksum of every line of the file ``sums`` in a folder, each compared with the file that it names."""
    listed = dict(reversed(line.split("  ", 1)) for line in (folder / sums).read_text(encoding="utf-8").splitlines())
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    return listed
