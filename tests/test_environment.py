"""One source of truth: pyproject.toml says what is needed, constraints.txt pins it, the rest repeats."""

import os
import re
import subprocess
import sys
import tomllib
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The extra cluster has its own command and its own pins (workflow/).
NEEDED = {name: needs for name, needs in PROJECT["optional-dependencies"].items() if name != "cluster"}
EXTRAS = sorted(NEEDED)
CROSSCHECK = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["crosscheck"]
# Comes with every environment or build, in the version that these take.
UNPINNED = {"setuptools"}
SYSTEMS = {"Linux": {"sys_platform": "linux", "platform_machine": "x86_64"},
           "Darwin": {"sys_platform": "darwin", "platform_machine": "arm64"}}
PROMISED = [{"platform_system": system, **more, "python_version": python, "python_full_version": f"{python}.0"}
            for (system, more), python in product(SYSTEMS.items(), ("3.11", "3.12", "3.13"))]
CUDA_HEADING = "# What torch's ordinary Linux build brings (CUDA); no other build needs it."


def pins(text: str | None = None, here: bool = False) -> dict[str, str]:
    """The pinned versions by name; ``here`` leaves out those that are pinned for another Python or system."""
    text = (ROOT / "constraints.txt").read_text() if text is None else text
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    found = {}
    for need in map(Requirement, filter(None, lines)):
        (exact,) = need.specifier
        assert exact.operator == "==", need
        if not here or need.marker is None or need.marker.evaluate():
            found[canonicalize_name(need.name)] = exact.version
    return found


def cuda_pins() -> set[str]:
    return set(pins((ROOT / "constraints.txt").read_text().partition(CUDA_HEADING)[2]))


def installed(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


@cache
def requirements(name: str) -> list[Requirement]:
    return [] if installed(name) is None else [Requirement(text) for text in distribution(name).requires or []]


def closure(direct: list[str] | None = None, machine: dict[str, str] | None = None) -> set[str]:
    """Everything that the project and its extras need on a machine (this one), from the installed metadata."""
    if direct is None:
        direct = [*PROJECT["dependencies"], *sum(NEEDED.values(), [])]
    queue = [Requirement(text) for text in direct]
    seen: set[str] = set()
    while queue:
        need = queue.pop()
        name = canonicalize_name(need.name)
        key = f"{name}[{','.join(sorted(need.extras))}]"
        if key in seen:
            continue
        seen.add(key)
        queue += [inner for inner in requirements(name) if inner.marker is None or any(
            inner.marker.evaluate({**(machine or {}), "extra": extra}) for extra in (*need.extras, ""))]
    return {key.partition("[")[0] for key in seen} - UNPINNED


def needed_somewhere() -> set[str]:
    """What any of the promised Pythons needs, on Linux or macOS; of a package that is not here, only its name."""
    return closure().union(*(closure(machine=machine) for machine in PROMISED), map(canonicalize_name, CROSSCHECK))


def needed_here() -> set[str]:
    """What this machine needs; the group crosscheck is taken as it stands, without what it asks for."""
    return closure() | set(map(canonicalize_name, CROSSCHECK))


def departure(found: str, pinned: str) -> str:
    """How an installed version departs from its pin: ``none``, a ``newer patch`` of it, or ``other``.

    The build (2.13.0+cpu) does not count.
    """
    here, there = Version(Version(found).public), Version(pinned)
    if here == there:
        return "none"
    same = (here.epoch, here.major, here.minor) == (there.epoch, there.major, there.minor)
    return "newer patch" if same and here > there and not here.is_prerelease else "other"


def judge(found: dict[str, str | None], pinned: dict[str, str]) -> tuple[list[str], list[str]]:
    """What is a newer patch of its pin, and what is neither that nor the pinned version."""
    newer, wrong = [], []
    for name, version in found.items():
        if version is None:
            wrong.append(f"{name} is not installed (pinned: {pinned[name]})")
        elif departure(version, pinned[name]) == "newer patch":
            newer.append(f"{name} {version} is a newer patch of the pinned {pinned[name]}")
        elif departure(version, pinned[name]) == "other":
            wrong.append(f"{name} is {version} (pinned: {pinned[name]})")
    return newer, wrong


def test_what_the_extra_cluster_needs_is_pinned_beside_it():
    text = (ROOT / "workflow" / "constraints.txt").read_text()
    needs = {canonicalize_name(Requirement(need).name) for need in PROJECT["optional-dependencies"]["cluster"]}
    assert needs <= set(pins(text)) and not set(pins(text)) & set(pins())


def test_every_dependency_is_pinned_exactly():
    missing = needed_somewhere() - set(pins())
    assert not missing, f"constraints.txt lacks {sorted(missing)}"


def test_nothing_is_pinned_that_nobody_needs():
    assert not set(pins(here=True)) - cuda_pins() - needed_somewhere()


def test_the_pins_for_cuda_are_what_torch_asks_for():
    assert cuda_pins() and all(re.match(r"cuda-|nvidia-|triton$", name) for name in cuda_pins())
    brought = closure(["torch"])
    if any(name.startswith("nvidia-") for name in brought):  # only the ordinary Linux build asks for these
        assert not cuda_pins() - brought


def test_this_environment_is_the_pinned_one():
    newer, wrong = judge({name: installed(name) for name in sorted(needed_here() & set(pins()))}, pins())
    for sentence in newer:
        warnings.warn(sentence, stacklevel=1)
    if wrong:
        pytest.fail(f"This environment is not the pinned one: {'; '.join(wrong)}.", pytrace=False)


@pytest.mark.parametrize(("found", "pinned", "expected"), [
    ("2.13.0", "2.13.0", "none"),
    ("2.13.0+cpu", "2.13.0", "none"),
    ("25.0.0", "25.0", "none"),
    ("2.13.1", "2.13.0", "newer patch"),
    ("2.13.1+cpu", "2.13.0", "newer patch"),
    ("1.17.10", "1.17.9", "newer patch"),
    ("25.0.1", "25.0", "newer patch"),
    ("0.1.9.post2", "0.1.9.post1", "newer patch"),
    ("2.13.0", "2.13.1", "other"),
    ("2.14.0", "2.13.0", "other"),
    ("3.13.1", "2.13.0", "other"),
    ("2.13.1rc1", "2.13.0", "other"),
    ("2.13.0.dev1", "2.13.0", "other"),
    ("1!2.13.1", "2.13.0", "other"),
])
def test_only_a_newer_patch_may_stand_for_a_pin(found, pinned, expected):
    assert departure(found, pinned) == expected


def test_each_departure_names_the_package_and_both_versions():
    found = {"a": "1.0.0", "b": "1.0.1", "c": "1.1.0", "d": None}
    assert judge(found, dict.fromkeys(found, "1.0.0")) == (
        ["b 1.0.1 is a newer patch of the pinned 1.0.0"],
        ["c is 1.1.0 (pinned: 1.0.0)", "d is not installed (pinned: 1.0.0)"])


def test_pins_for_another_python_do_not_count_here():
    text = "one==1.0\ntwo==2.0; python_version == '2.7'  # old\n"
    assert pins(text) == {"one": "1.0", "two": "2.0"} and pins(text, here=True) == {"one": "1.0"}


def test_environment_yml_repeats_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    low, high = re.fullmatch(r">=([\d.]+),<([\d.]+)", PROJECT["requires-python"]).groups()
    assert f"python>={low},<{high}" in plain and "pip" in plain
    assert pip == ["-c constraints.txt", f"-e .[{','.join(EXTRAS)}]"]


def test_the_makefile_installs_the_same():
    text = (ROOT / "Makefile").read_text()
    assert f"-c constraints.txt -e '.[{','.join(EXTRAS)}]'" in text
    assert f"CROSSCHECK := {' '.join(CROSSCHECK)}\n" in text


def make(*words: str) -> subprocess.CompletedProcess:
    plain = {name: value for name, value in os.environ.items()
             if name not in ("MAKEFLAGS", "MAKELEVEL", "TORCH", "VENV", "PYTHON")}
    return subprocess.run(["make", "-n", *words], cwd=ROOT, env=plain, capture_output=True, text=True)


def test_the_small_build_of_torch_is_installed_first_and_remembered(tmp_path):
    ordinary = make("env", f"VENV={tmp_path}").stdout
    assert "--torch-backend" not in ordinary and "-m venv" in ordinary
    small = make("env", f"VENV={tmp_path}", "TORCH=cpu").stdout
    assert small.index("-m venv") < small.index("--torch-backend=cpu") < small.index("-e '.[")
    assert re.search(r"--torch-backend=cpu .*\n? .*-c constraints\.txt torch\b", small)
    (tmp_path / "torch-cpu").touch()
    os.utime(tmp_path / "torch-cpu", (0, 0))  # older than the pins: both steps are due again
    again = make("env", f"VENV={tmp_path}").stdout
    assert again.index("--torch-backend=cpu") < again.index("-e '.[")


def test_torch_has_no_third_build():
    refused = make("env", "TORCH=gpu")
    assert refused.returncode and "TORCH is cpu, or not set" in refused.stderr


def test_another_python_gets_its_own_environment():
    own = ".venv-{}.{}".format(*sys.version_info)
    assert f"{own}/bin/python -m pytest" in make("test-python", f"PYTHON={sys.executable}").stdout


def test_no_file_names_a_package_index():
    for name in ("constraints.txt", "environment.yml", "pyproject.toml", "Makefile"):
        assert "://" not in (ROOT / name).read_text(), name
