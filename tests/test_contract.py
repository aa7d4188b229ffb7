"""The house's rule that imports go down only, checked by import-linter and by a start of the package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports_command as c; c()"
    return subprocess.run([sys.executable, "-c", code, "--no-cache", *arguments], cwd=folder,
                          capture_output=True, text=True)


def test_imports_go_down_only():
    run = lint(ROOT, "--config", "pyproject.toml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def test_every_module_stands_in_a_layer():
    """A new module outside the layers would escape the contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    named = {name.strip() for layer in layers for name in re.split("[|:]", layer)}
    modules = {p.stem for p in (ROOT / "gfm").iterdir()
               if p.suffix == ".py" or (p / "__init__.py").is_file()} - {"__init__", "__main__"}
    missing, gone = modules - {name.removeprefix("gfm.") for name in named}, named - {f"gfm.{m}" for m in modules}
    assert not missing, f"pyproject.toml's layers lack {sorted(missing)}"
    assert not gone, f"pyproject.toml's layers name {sorted(gone)}, which do not exist"


def test_the_contract_can_fail(tmp_path):
    """A package that imports upwards breaks the same kind of contract."""
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "roof.py").write_text("")
    (package / "ground.py").write_text("import house.roof\n")
    (tmp_path / "contract.toml").write_text(
        '[tool.importlinter]\nroot_package = "house"\n[[tool.importlinter.contracts]]\n'
        'name = "down"\ntype = "layers"\nlayers = ["house.roof", "house.ground"]\n')
    run = lint(tmp_path, "--config", "contract.toml")
    assert run.returncode == 1 and "1 broken" in run.stdout


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, gfm; print(sorted({'torch', 'matplotlib', 'scipy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("code", ["import gfm; found = gfm.forecasters.available()",
                                  "from gfm.forecasters import available; found = available()"])
def test_the_learned_flows_stand_among_the_forecasters(code):
    """In a fresh process, where nothing else has imported them."""
    run = subprocess.run([sys.executable, "-c", f"{code}; print('gfm' in found)"], capture_output=True, text=True)
    assert run.stdout.strip() == "True", run.stderr
