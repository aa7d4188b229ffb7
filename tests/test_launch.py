"""What Binder and Colab are told to install is what the project needs, in its pinned versions."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import launch
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from gfm.book.register import Register

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
INSTALLS = (BINDER / "postBuild").read_text()


def test_binder_has_the_files_that_repo2docker_reads():
    assert {file.name for file in BINDER.iterdir()} == {"runtime.txt", "requirements.txt", "postBuild"}
    assert (BINDER / "postBuild").stat().st_mode & 0o111 and INSTALLS.startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", BINDER / "postBuild"]).returncode == 0 and "\nset -eu\n" in INSTALLS


def test_its_python_is_one_that_the_project_takes():
    version = re.fullmatch(r"python-(3\.\d+)\n", (BINDER / "runtime.txt").read_text())[1]
    assert f"{version}.99" in SpecifierSet(PROJECT["requires-python"])


def test_its_torch_is_installed_as_the_makefile_installs_it():
    (need,) = [Requirement(line) for line in (BINDER / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    assert f" uv{need.specifier}\n" in MAKEFILE and need.name == "uv"
    first, second = [line for line in INSTALLS.splitlines() if " install " in line]
    assert re.search(r"^uv pip .*--torch-backend=cpu --no-deps -c constraints\.txt torch$", first)
    assert "--torch-backend=cpu --no-deps" in MAKEFILE
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    extras = re.search(r"-c constraints\.txt -e '\.\[([\w,]+)\]'$", second)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"]) and "notebooks" in extras


def test_the_cell_for_colab_installs_the_package_over_colabs_own_torch():
    text = (ROOT / "book" / "how-to-run.md").read_text()
    (cell,) = re.findall(r"```\n(!git clone.*?)```", text, re.DOTALL)
    clone, change, install = cell.splitlines()
    assert "{{ repository }}" in clone and clone.split()[-1] == change.removeprefix("%cd ")
    assert install == "%pip install -q -e ." and "constraints" not in cell
    unpinned = [Requirement(need) for need in PROJECT["dependencies"]]
    assert all(not need.specifier for need in unpinned), "Colab's own versions would be replaced"


def test_the_notebook_is_a_quick_one_of_the_book():
    register = Register.load(ROOT)
    assert any(Path(name).stem == launch.NOTEBOOK for name in register.notebooks())
    assert float(register[launch.NOTEBOOK].cost["smoke"].split()[0]) <= 5


def test_memory_of_all_processes_is_measured_and_the_exit_code_kept():
    hold = "b = bytearray(150_000_000); import time; time.sleep(.6)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}]); sys.exit(3)"
    code, most = launch.run([sys.executable, "-c", child])
    assert code == 3 and 1.5e8 < most < 4e8


@pytest.mark.parametrize("code, most, expected", [(0, 1, 0), (0, 3_000_000_000, 1), (2, 1, 1)])
def test_a_failure_or_too_much_memory_fails(code, most, expected, monkeypatch):
    commands = []
    monkeypatch.setattr(launch, "copy_of_the_repository", lambda folder: folder.mkdir())
    monkeypatch.setattr(launch, "install", lambda repository, environment: commands.append(environment["PATH"]))
    monkeypatch.setattr(launch, "run", lambda command, **options: (code, most))
    monkeypatch.setattr(launch.subprocess, "run", lambda command, **options: Path(command[-1]).mkdir())
    assert launch.main() == expected
    assert commands[0].split(":")[0].endswith("/environment/bin")


def test_the_copy_has_what_git_knows_and_nothing_built(tmp_path):
    launch.copy_of_the_repository(tmp_path)
    assert (tmp_path / "binder" / "postBuild").is_file() and (tmp_path / "book" / "elements.yml").is_file()
    assert not (tmp_path / "build").exists() and not (tmp_path / ".git").exists()


def test_the_command_line_needs_nothing_of_the_extra_book():
    code = "import sys, gfm.book.building; sys.exit(bool({'docutils', 'sphinx'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
