"""From executed notebooks and prose to static pages: stage, build with Sphinx, tidy, check."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from gfm.book import overview
from gfm.book.benchmarks import benchmarks_page
from gfm.book.check import check_site
from gfm.book.citing import bibtex
from gfm.book.mathematics import split_styles
from gfm.book.pages import Page, make_page
from gfm.book.paths import PROFILES, build_folder
from gfm.book.register import Register
from gfm.book.runs import executed
from gfm.book.tidy import tidy
from gfm.book.verdicts import load
from gfm.errors import GfmError, RegisterError

__all__ = ["Site", "build_site"]

_PICTURES = ("gd-central-flow",)


@dataclass
class Site:
    """What was built: the first page, and everything found wanting."""

    index: Path
    problems: list[str] = field(default_factory=list)
    profiles: dict[str, str] = field(default_factory=dict)  # notebook -> profile of its page
    reused: bool = False  # nothing had changed, so the pages were left as they are


def build_site(register: Register, profiles: tuple[str, ...] = PROFILES) -> Site:
    """Build ``build/site/html`` from the best run of each notebook among ``profiles``.

    A notebook that was never run is shown as committed (its smoke outputs).
    Raises: GfmError with the end of Sphinx's own words where the build fails.
    """
    folder = build_folder(register.root) / "site"
    source, html = folder / "src", folder / "html"
    site = Site(html / "index.html")
    stamp = folder / "built.sha256"
    shutil.rmtree(source, ignore_errors=True)
    _stage(register, source, profiles, site)
    digest = _digest(source)
    if not site.index.is_file() or not stamp.is_file() or stamp.read_text() != digest:
        stamp.unlink(missing_ok=True)
        _sphinx(source, folder)
        tidy(html)
        stamp.write_text(digest)
    else:
        site.reused = True
    site.problems += check_site(html)
    return site


def _digest(source: Path) -> str:
    """Of all staged files, and of the code that turns them into pages."""
    code = [Path(__file__).with_name(f"{name}.py") for name in ("mathematics", "site", "tidy")]
    total = hashlib.sha256()
    for file in [*sorted(source.rglob("*")), *code]:
        if file.is_file():
            name = file.relative_to(source).as_posix() if file not in code else file.name
            total.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _stage(register: Register, source: Path, profiles: tuple[str, ...], site: Site) -> None:
    book = register.root / "book"
    source.mkdir(parents=True)
    for name in ("_config.yml", "references.bib"):
        shutil.copyfile(book / name, source / name)
    shutil.copytree(book / "assets", source / "assets")
    split_styles(source / "assets" / "katex")

    names: dict[str, str] = {}
    figures: dict[str, dict[str, str]] = {}
    for name in register.notebooks():
        page = _page(register, name, source, profiles, site)
        for shown, flag in (make_page(page) if page else {}).items():
            if shown in names:
                raise RegisterError(f"{name} and {names[shown]} both show something named {shown!r}.")
            names[shown] = name
            figures |= {shown: flag} if flag["kind"] == "figure" else {}
    staged = set(site.profiles)
    words = overview.numbers(register, staged, _picture(source, names, figures))
    (source / "downloads").mkdir(exist_ok=True)
    (source / "downloads" / "book.bib").write_text(bibtex(register) + "\n", encoding="utf-8")
    (source / "status.md").write_text(overview.status_page(register, staged), encoding="utf-8")
    (source / "benchmarks.md").write_text(benchmarks_page(register.root), encoding="utf-8")
    for file in sorted(book.glob("*.md")):
        text = _fill(file.read_text(encoding="utf-8"), words, file.name)
        (source / file.name).write_text(text, encoding="utf-8")
    pages = {f.stem for f in source.glob("*.md")}
    toc = overview.table_of_contents(register, staged, pages)
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


def _picture(source: Path, names: dict[str, str], figures: dict[str, dict[str, str]]) -> str:
    """The front page's picture: the first of these figures that some page shows."""
    for name in (*_PICTURES, *figures):
        if name in figures:
            folder = Path("notebooks") / Path(names[name]).parent / "figures"
            (image,) = (source / folder).glob(f"{name}.*")
            alt = " ".join(figures[name]["alt"].split())
            return (f"```{{image}} {(folder / image.name).as_posix()}\n:alt: {alt}\n:width: 100%\n"
                    f":target: notebooks/{Path(names[name]).with_suffix('.html').as_posix()}\n```")
    return ""


def _page(register: Register, name: str, source: Path, profiles: tuple[str, ...],
          site: Site) -> Page | None:
    committed = register.root / "notebooks" / name
    if not committed.is_file():
        site.problems.append(f"the register names notebooks/{name}, which does not exist")
        return None
    for profile in reversed(profiles):
        places = (executed(register.root, profile, name),
                  register.root / "book" / "results" / profile / "run" / name)
        run = next((p for p in places if p.is_file()), None)
        if run:
            break
    else:
        profile, run = "smoke", committed
    files = build_folder(register.root) / profile
    if "results" in run.relative_to(register.root).parts if run.is_relative_to(register.root) else ():
        files = register.root / "book" / "results" / profile
    site.profiles[name] = profile
    downloads = source / "downloads" / Path(name).stem
    downloads.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run, downloads / Path(name).name)
    up = "../" * len(Path(name).parts)
    link = f"{{download}}`the notebook as run <{up}downloads/{Path(name).stem}/{Path(name).name}>`"
    head = f"{{.runline}}\n{_provenance(register, name, profile)} · download {link}"
    return Page(run, files, source, name, head, {e.id: e.notebook for e in register})


def _provenance(register: Register, name: str, profile: str) -> str:
    for entry in register:
        if entry.notebook == name and (stored := load(register, entry, profile)):
            return overview.run_line(profile, stored.meta)
    return f"[Profile *{profile}*, as committed]{{.provenance}}"


def _fill(text: str, words: dict[str, str], where: str) -> str:
    def word(match: re.Match[str]) -> str:
        try:
            return words[match[1]]
        except KeyError:
            raise RegisterError(f"book/{where} asks for {match[0]}, which nothing provides.") from None

    return re.sub(r"\{\{ ([\w:.-]+) \}\}", word, text)


def _sphinx(source: Path, folder: Path) -> None:
    """``-W -n --keep-going``: a broken reference or a missing file breaks the build."""
    start = "from jupyter_book.cli.main import main; main()"
    config = [sys.executable, "-c", start, "config", "sphinx", "."]
    made = subprocess.run(config, cwd=source, capture_output=True, text=True)
    if made.returncode:
        raise GfmError(f"The book's configuration cannot be read:\n{_tail(made)}")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-n", "--keep-going", "-q",
               "-d", str(folder / "doctrees"), ".", str(folder / "html")]
    shutil.rmtree(folder / "html", ignore_errors=True)
    shutil.rmtree(folder / "doctrees", ignore_errors=True)
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    (folder / "sphinx.log").write_text(built.stdout + built.stderr, encoding="utf-8")
    if built.returncode:
        raise GfmError(f"The pages cannot be built:\n{_tail(built)}")


def _tail(run: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((run.stdout + run.stderr).strip().splitlines()[-25:])
