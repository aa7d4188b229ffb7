"""One source of truth: pyproject.toml says what is needed, constraints.txt pins it, the rest repeats."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"])


def pins() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    found = [line.split("==") for line in lines if line]
    return {canonicalize_name(name): version for name, version in found}


def closure() -> set[str]:
    """Everything that the project and its extras need on this machine, from the installed metadata."""
    direct = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    queue = [Requirement(text) for text in direct]
    seen: set[str] = set()
    while queue:
        need = queue.pop()
        name = canonicalize_name(need.name)
        key = f"{name}[{','.join(sorted(need.extras))}]"
        if key in seen:
            continue
        seen.add(key)
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for text in requires:
            inner = Requirement(text)
            if inner.marker is None or any(
                inner.marker.evaluate({"extra": extra}) for extra in (*need.extras, "")
            ):
                queue.append(inner)
    return {key.partition("[")[0] for key in seen}


def test_every_dependency_is_pinned_exactly():
    missing = {name for name in closure() if name not in pins() and name != "setuptools"}
    assert not missing, f"constraints.txt lacks {sorted(missing)}"


def test_nothing_is_pinned_that_nobody_needs():
    assert not set(pins()) - closure()


def test_this_environment_is_the_pinned_one():
    for name, version in pins().items():
        assert distribution(name).version.partition("+")[0] == version, name


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


def test_no_file_names_a_package_index():
    for name in ("constraints.txt", "environment.yml", "pyproject.toml", "Makefile"):
        assert "://" not in (ROOT / name).read_text(), name
