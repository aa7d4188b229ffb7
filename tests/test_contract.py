"""The house's rule that imports go down only, checked by import-linter and by a start of the package."""

import ast
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


def private_reach(code: str) -> list[str]:
    """Uses of private names that the file does not define itself; those of base classes in other files count too."""
    tree = ast.parse(code)
    own = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    own |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    own |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gfm"):
            found += [a.name for a in node.names if a.name.startswith("_") and not a.name.endswith("__")]
        if isinstance(node, ast.Attribute) and re.fullmatch(r"_[^_].*", node.attr) and node.attr not in own:
            found.append(ast.unparse(node))
    return found


def test_no_module_uses_private_names_of_another():
    """Those of torch without a public counterpart are named here, and the one that is Python's documented name."""
    torch_only = {"parametrizations._SpectralNorm", "parametrizations._WeightNorm", "layer._forward_pre_hooks",
                  "m._forward_hooks", "m._forward_pre_hooks", "m._backward_hooks", "m._backward_pre_hooks",
                  "modules._has_any_global_hook", "os._exit"}
    found = {(p.relative_to(ROOT).as_posix(), name) for p in (ROOT / "gfm").rglob("*.py")
             for name in private_reach(p.read_text()) if name not in torch_only and not name.endswith("._version")}
    assert not found


@pytest.mark.parametrize("code", ["from gfm.problem import _check", "problem._check(w)", "gfm.losses._Callable",
                                  "class A(B):\n    def f(self): self._check()\n"])
def test_private_reach_is_found(code):
    assert private_reach(code)
    assert not private_reach("class A:\n    def _check(self): pass\n    def f(self): self._check()\n")


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
