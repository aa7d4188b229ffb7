"""``make test-launch``: what Binder does with the folder ``binder``, in a fresh environment, and one notebook in it.

The files are installed as repo2docker does (requirements.txt, then postBuild at the root of the repository), a notebook
is run in a kernel of that environment, and memory is measured: Binder gives a session 2 GB.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
NOTEBOOK = "gd-quadratics"
MOST = 2_000_000_000  # bytes
_FRAME = 0.05  # seconds between looks at the memory


def interpreter() -> str:
    """The Python that binder/runtime.txt names.

    Raises: SystemExit if it is not here.
    """
    version = (ROOT / "binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    if version == "{}.{}".format(*sys.version_info):
        return sys.executable
    return shutil.which(f"python{version}") or sys.exit(f"binder/runtime.txt asks for Python {version}.")


def copy_of_the_repository(folder: Path) -> None:
    """The files that git knows or would take, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def install(repository: Path, environment: dict[str, str]) -> None:
    """What repo2docker runs, in its order."""
    subprocess.run(["pip", "install", "-q", "--no-cache-dir", "-r", "binder/requirements.txt"], cwd=repository,
                   env=environment, check=True)
    subprocess.run(["binder/postBuild"], cwd=repository, env=environment, check=True)


def run(command: list[str], **options: object) -> tuple[int, int]:
    """Exit code of a command, and the most memory (bytes) that it and all processes it started held at once."""
    started = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    most = 0
    while started.poll() is None:
        most = max(most, _memory(psutil.Process(started.pid)))
        time.sleep(_FRAME)
    return started.returncode, most


def _memory(process: psutil.Process) -> int:
    held = 0
    for one in [process, *_children(process)]:
        try:
            held += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return held


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def main() -> int:
    """1 if the notebook fails or takes more memory than a session of Binder has."""
    with tempfile.TemporaryDirectory() as scratch:
        repository, made = Path(scratch, "repository"), Path(scratch, "environment")
        copy_of_the_repository(repository)
        subprocess.run([interpreter(), "-m", "venv", str(made)], check=True)
        ours = ("PYTHONPATH", "GFM_STORE", "GFM_BUILD")
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        environment |= {"PATH": f"{made / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(made)}
        start = time.perf_counter()
        install(repository, environment)
        installed = time.perf_counter() - start
        size = sum(f.lstat().st_size for f in made.rglob("*") if f.is_file())
        code, most = run(["gfm", "run", NOTEBOOK], cwd=repository, env=environment)
        print(f"Installed in {installed:.0f} s, {size / 1e9:.1f} GB on disk; {NOTEBOOK} ended with code {code}, "
              f"{time.perf_counter() - start - installed:.0f} s, at most {most / 1e9:.2f} GB of memory "
              f"(allowed: {MOST / 1e9:.0f}).")
        return int(code != 0 or most > MOST)


if __name__ == "__main__":
    sys.exit(main())
