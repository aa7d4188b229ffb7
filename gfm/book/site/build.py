"""From executed notebooks and prose to static pages: stage, build with Sphinx, tidy, check."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from gfm.book.paths import PROFILES, build_folder
from gfm.book.register import Register
from gfm.book.runs import records
from gfm.book.runs.notebooks import Notebook, profile_parameters
from gfm.book.runs.plans import executed
from gfm.book.site import guards, overview
from gfm.book.site.addresses import addresses, root_of
from gfm.book.site.benchmarks import benchmarks_page, cluster_table
from gfm.book.site.citing import bibtex, entries, with_letters
from gfm.book.site.contents import index_entries, table_of_contents
from gfm.book.site.downloads import write_downloads
from gfm.book.site.links import check_site
from gfm.book.site.mathematics import split_styles
from gfm.book.site.pages import Page, make_page
from gfm.book.site.policy import protect
from gfm.book.site.status import status_page
from gfm.book.site.tidy import tidy
from gfm.book.verdicts import damaged, load_whole
from gfm.errors import GfmError, RegisterError
from gfm.files import digest_of, locked, read_json, sha, write_text

__all__ = ["Site", "build_site", "picture"]

_PICTURED = "gd-central-flow"  # the element, and its figure, from which the first page's picture is drawn
_ALT = ("Sharpness over the steps of one training run. All curves rise together. Then gradient flow goes on rising, "
        "the central flow stays level at 2/eta, and gradient descent swings up and down around that level.")
_CAPTION = ("One training run of this book. The sharpness is the largest curvature of the loss. It rises to $2/\\eta$, "
            "with $\\eta$ the learning rate; from there gradient flow leaves the path of training, and the central "
            "flow stays in its middle.")


@dataclass
class Site:
    """What was built: the site's first page, and all problems found."""

    index: Path
    problems: list[str] = field(default_factory=list)
    profiles: dict[str, str] = field(default_factory=dict)  # notebook -> profile of its page
    reused: bool = False  # nothing had changed, so the pages were left as they are


def build_site(register: Register, profiles: tuple[str, ...] = PROFILES) -> Site:
    """Build ``build/site/html`` from the runs of each notebook under ``profiles``.

    A page shows the ``book`` run, else the ``smoke`` run (or the committed outputs, if there is none), followed
    by the run under ``paper``, if there is one.

    Raises:
        GfmError: The builders are not those that the project pins (checked before anything is built), or the
            build fails; the message then gives the last lines of Sphinx's output.
    """
    if wrong := guards.other_builders(register.root):
        raise GfmError(wrong)
    folder = build_folder(register.root) / "site"
    source, html = folder / "src", folder / "html"
    site = Site(html / "index.html")
    stamp = folder / "built.sha256"
    with locked(folder / ".lock"):
        _build(register, profiles, site, source, stamp)
    return site


def _build(register: Register, profiles: tuple[str, ...], site: Site, source: Path, stamp: Path) -> None:
    html = site.index.parent
    shutil.rmtree(source, ignore_errors=True)
    site.problems += damaged(register)
    _stage(register, source, profiles, site)
    digest = _digest(source)
    if not stamp.is_file() or stamp.read_bytes() != f"{digest} {_tree(html)}".encode():
        stamp.unlink(missing_ok=True)
        _sphinx(source, source.parent)
        tidy(html)
        protect(html)
        write_text(stamp, f"{digest} {_tree(html)}")
    else:
        site.reused = True
    site.problems += guards.missing_pages(register, html) + check_site(html, root_of(addresses(register.root)[0]))
    if site.problems:
        stamp.unlink(missing_ok=True)  # pages with faults are not reused


def _digest(source: Path) -> str:
    """Digest of all staged files, of the builders' versions, and of the package, whose docstrings are shown too."""
    return sha(f"{guards.builders()} {_tree(source)} {_tree(Path(__file__).parents[2], '*.py')}")


def _tree(folder: Path, pattern: str = "*") -> str:
    """Digest of all files in a folder."""
    files = sorted(f for f in folder.rglob(pattern) if f.is_file())
    return sha("\n".join(f"{file.relative_to(folder)} {digest_of(file)}" for file in files))


def _stage(register: Register, source: Path, profiles: tuple[str, ...], site: Site) -> None:
    book = register.root / "book"
    source.mkdir(parents=True)
    shutil.copyfile(book / "_config.yml", source / "_config.yml")
    (source / "references.bib").write_text(with_letters(entries(book)), encoding="utf-8")
    shutil.copytree(book / "assets", source / "assets")
    split_styles(source / "assets" / "katex")

    names: dict[str, str] = {}
    indexed = index_entries(register)
    for name in register.notebooks():
        pages = _pages(register, name, source, profiles, site)
        if pages and name in indexed:
            pages = replace(pages[0], head=f"{indexed[name]}\n\n{pages[0].head}"), *pages[1:]
        for shown in make_page(*pages) if pages else ():
            if shown in names:
                raise RegisterError(f"{name} and {names[shown]} both show something named {shown!r}.")
            names[shown] = name
    staged = set(site.profiles)
    words = overview.numbers(register, staged, picture(register, source, site.profiles))
    words["cluster"] = cluster_table(register.root)
    words["repository"] = addresses(register.root)[1] or "https://github.com/NAME/REPOSITORY"
    words["downloads"] = write_downloads(register, source, site.profiles)
    (source / "downloads").mkdir(exist_ok=True)
    (source / "downloads" / "book.bib").write_text(bibtex(register) + "\n", encoding="utf-8")
    (source / "status.md").write_text(status_page(register, staged), encoding="utf-8")
    (source / "benchmarks.md").write_text(benchmarks_page(register.root), encoding="utf-8")
    for file in sorted(book.glob("*.md")):
        text = _fill(file.read_text(encoding="utf-8"), words, file.name)
        (source / file.name).write_text(text, encoding="utf-8")
    written = {f.stem for f in source.glob("*.md")}
    toc = table_of_contents(register, staged, written)
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


def picture(register: Register, source: Path, profiles: dict[str, str]) -> str:
    """The first page's picture, drawn from the data of the page that shows it; nothing if there are none."""
    if (name := next((e.notebook for e in register if e.id == _PICTURED), None)) not in profiles:
        return ""
    file = build_folder(register.root) / profiles[name] / "data" / Path(name).stem / f"{_PICTURED}.json"
    if not file.is_file():
        return ""
    from gfm.figures.front import sharpness  # matplotlib only where something is drawn

    for kind, drawn in sharpness(read_json(file, "the data of a figure")).items():
        (source / f"front.{kind}").write_bytes(drawn)
    return (f"```{{figure}} front.svg\n:alt: {_ALT}\n:width: 100%\n"
            f":target: notebooks/{Path(name).with_suffix('.html').as_posix()}\n\n{_CAPTION}\n```")


def _pages(register: Register, name: str, source: Path, profiles: tuple[str, ...], site: Site) -> tuple[Page, ...]:
    """The page's run, and the run under ``paper`` shown after it, if there is one."""
    committed = register.root / "notebooks" / name
    if not committed.is_file():
        site.problems.append(f"the register names notebooks/{name}, which does not exist")
        return ()
    runs = {p: run for p in profiles if (run := _run_of(register, p, name, site))}
    profile = next((p for p in ("book", "smoke") if p in runs), "smoke")
    site.profiles[name] = profile
    first = _page(register, name, source, profile, runs.get(profile, committed))
    pages = [replace(first, head=first.head + _failed(register, profiles, name))]
    site.problems += guards.what_a_run_lacks(register, name, profile, runs.get(profile, committed))
    if "paper" in runs:
        site.problems += guards.what_a_run_lacks(register, name, "paper", runs["paper"])
        if changes := _changes(register, name, profile, "paper"):  # else both runs show the same
            pages.append(replace(_page(register, name, source, "paper", runs["paper"], "-paper"), changes=changes))
    return tuple(pages)


def _changes(register: Register, name: str, one: str, other: str) -> tuple[tuple[str, str, str], ...]:
    """The parameters in which two profiles of a notebook differ: name and both values, below a heading."""
    notebook = Notebook(register.root, name)
    first, second = ({**notebook.defaults, **profile_parameters(register.root, notebook, p)} for p in (one, other))
    rows = [(key, str(first[key]), str(second[key])) for key in first if key != "profile" and first[key] != second[key]]
    return (("parameter", one, other), *rows) if rows else ()


def _run_of(register: Register, profile: str, name: str, site: Site) -> Path | None:
    """The executed notebook of a profile: this build's, else the committed one; none whose files are damaged."""
    kept = register.root / "book" / "results" / profile / "run" / name
    for run in (executed(register.root, profile, name), kept):
        if run.is_file() and not records.failure(run).is_file():
            if not (wrong := records.damage(run)):
                return run
            site.problems.append(f"notebooks/{name} ({profile}) is not shown as it ran: {wrong}")
    return None


def _failed(register: Register, profiles: tuple[str, ...], name: str) -> str:
    """What the page says of runs that failed."""
    told = ""
    for profile in profiles:
        file = records.failure(executed(register.root, profile, name))
        if file.is_file():
            error = " ".join(file.read_text(encoding="utf-8", errors="replace").replace("`", "'").split())[:500]
            told += (f"\n\n```{{warning}}\nThe last run under the profile *{profile}* failed, so this page shows an "
                     f"earlier one.\n\n` {error} `\n```")
    return told


def _page(register: Register, name: str, source: Path, profile: str, run: Path, suffix: str = "") -> Page:
    files = build_folder(register.root) / profile
    if run.is_relative_to(register.root / "book" / "results"):
        files = register.root / "book" / "results" / profile
    page = Page(run, files, source, name, "", {e.id: e.notebook for e in register}, suffix)
    copy = source / page.downloads / Path(name).name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run, copy)
    link = f"{{download}}`the notebook as run <{page.up}{page.downloads}/{copy.name}>`"
    return replace(page, head=f"{{.runline}}\n{_provenance(register, name, profile)} · download {link}")


def _provenance(register: Register, name: str, profile: str) -> str:
    for entry in register.shown_in(name):
        if stored := load_whole(register, entry, profile):
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
    """Run Sphinx with ``-W -n --keep-going``: a broken reference or a missing file breaks the build."""
    start = "from jupyter_book.cli.main import main; main()"
    config = [sys.executable, "-c", start, "config", "sphinx", "."]
    made = subprocess.run(config, cwd=source, capture_output=True, text=True)
    if made.returncode:
        raise GfmError(f"The book's configuration cannot be read:\n{_tail(made).rstrip('.')}.")
    command = [sys.executable, "-m", "gfm.book.orphans", str(os.getpid()), "sphinx", "-b", "html", "-W", "-n",
               "--keep-going", "-q", "-d", str(folder / "doctrees"), ".", str(folder / "html")]
    shutil.rmtree(folder / "html", ignore_errors=True)
    shutil.rmtree(folder / "doctrees", ignore_errors=True)
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    (folder / "sphinx.log").write_text(built.stdout + built.stderr, encoding="utf-8")
    if built.returncode:
        raise GfmError(f"The pages cannot be built:\n{_tail(built).rstrip('.')}.")


def _tail(run: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((run.stdout + run.stderr).strip().splitlines()[-25:])
