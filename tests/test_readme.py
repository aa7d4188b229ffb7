"""What the README tells people to type or to open exists and makes sense."""

import re
import shlex
import subprocess
from pathlib import Path

import yaml

from gfm.book.register import Register
from gfm.book.runs.plans import plan
from gfm.book.site.citing import entries
from gfm.cli import join_parameters

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language; "" for those without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def commands(program: str) -> list[list[str]]:
    lines = [line for block in blocks("") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines
            if line.split()[0].rpartition("/")[2] == program]


def test_it_starts_with_what_a_newcomer_needs_in_order():
    order = [TEXT.index(word) for word in ("# Flows", "![", "make book", "gfm run")]
    assert order == sorted(order)


def test_every_target_that_contributors_read_of_is_made_by_one_recipe():
    done = subprocess.run(["make", "-n", "clean"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""  # make warns of a second recipe
    named = set(re.findall(r"`make ([\w-]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    listed = re.findall(r"(?m)^([\w-]+):.*##", (ROOT / "Makefile").read_text())
    assert {"test", "test-cluster"} <= named <= set(listed) and len(listed) == len(set(listed))


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    found = commands("make")
    assert ["book"] in found and ["test"] in found
    for (target, *_) in found:
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_the_runs_make_sense():
    register = Register.load(ROOT)
    runs = [c for c in commands("gfm") if c[0] == "run"]
    assert runs
    for _, notebook, *rest in runs:
        words = join_parameters(rest)
        pairs = [tuple(w.split("\x1f")) for w in words if "\x1f" in w]
        profile = words[words.index("--profile") + 1] if "--profile" in words else "smoke"
        assert plan(register, notebook, profile, pairs).notebook.name in register.notebooks()


def test_the_files_that_it_names_exist():
    for name in re.findall(r"`((?:gfm|book|notebooks|tests)/[\w./-]+)`|\]\(([\w./-]+)\)", TEXT):
        assert (ROOT / (name[0] or name[1])).exists(), name
    for name in ("LICENSE", "CITATION.cff", "CHANGELOG.md", "environment.yml", "constraints.txt"):
        assert (ROOT / name).is_file()


def test_the_citation_file_agrees_with_package_and_bibliography():
    import gfm

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == gfm.__version__ and citation["license"] == "MIT"
    known = " ".join(entries(ROOT / "book").values())
    for reference in citation["references"]:
        assert reference["title"] in known


def test_the_code_example_runs():
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    flow, loop = blocks("python")
    inputs = torch.randn(8, 2)
    names = {"module": module, "inputs": inputs, "targets": inputs.sum(1, keepdim=True)}
    exec(flow.replace("steps=1000", "steps=3"), names)
    assert len(names["run"]["central"].loss) == 4
    names |= {"model": module, "optimizer": torch.optim.Adam(module.parameters(), lr=1e-3),
              "criterion": torch.nn.functional.mse_loss, "x": inputs, "y": names["targets"]}
    exec(loop, names)
    assert names["nowcaster"].optimizer is names["optimizer"]
