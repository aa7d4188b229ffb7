"""``gfm build``: run the notebooks that are not current, build the pages, and report what was done."""

import time
from dataclasses import dataclass, field

from gfm.book.paths import PROFILES
from gfm.book.register import Register
from gfm.book.runs.notebooks import NoSuchProfile
from gfm.book.runs.plans import Outcome, Plan, executed, plan, run_all
from gfm.book.runs.records import failure
from gfm.book.site.build import Site, build_site
from gfm.book.site.guards import other_builders, what_a_run_lacks
from gfm.checks import known
from gfm.errors import GfmError
from gfm.files import write_text

__all__ = ["Report", "bring_up_to_date", "build"]


@dataclass
class Report:
    """What a build did: notebooks reused and rerun, problems, the site (None if it could not be built)."""

    reused: list[Plan] = field(default_factory=list)
    rerun: list[Outcome] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    site: Site | None = None


def build(register: Register, profile: str, jobs: int = 2, rerun: bool = True, force: bool = False) -> Report:
    """Bring every notebook of a profile up to date and build the book.

    Args:
        register: the book's register.
        profile: smoke, book or paper.
        jobs: number of notebooks run in parallel.
        rerun: run the notebooks that are not current; if false, the pages show existing outputs (the
            committed ones of notebooks that were never run).
        force: run every notebook; stored results are still reused.

    Raises:
        UnknownNameError: The profile is unknown.
    """
    known("profile", profile, PROFILES)
    if wrong := other_builders(register.root):  # reported before hours of runs
        return Report(problems=[wrong])
    report = bring_up_to_date(register, profile, jobs, force) if rerun else Report()
    start = time.perf_counter()
    shown = PROFILES[: PROFILES.index(profile) + 1] if profile == "smoke" else PROFILES
    try:
        report.site = build_site(register, shown)
    except GfmError as error:
        report.problems.append(str(error))
    else:
        report.problems += report.site.problems
        print("Pages reused: nothing that they show has changed." if report.site.reused
              else f"Pages built in {time.perf_counter() - start:.0f} s.")
    return report


def bring_up_to_date(register: Register, profile: str, jobs: int = 2, force: bool = False) -> Report:
    """Run the notebooks that are not current under a profile, and print for each notebook what is done and why.

    A notebook that lacks the profile is left out; one that fails does not stop the others.
    """
    report = Report()
    todo: list[Plan] = []
    for name in register.notebooks():
        try:
            item = plan(register, name, profile)
        except NoSuchProfile as error:
            print(f"  left out {name}: {error}")
            continue
        except GfmError as error:
            report.problems.append(str(error))
            write_text(failure(executed(register.root, profile, name)), f"{error}\n")
            continue
        why = item.why or "; ".join(what_a_run_lacks(register, name, profile, item.target)) or "asked for" * force
        if why:
            todo.append(item)
            print(f"  run      {name}: {why}")
        else:
            report.reused.append(item)
            failure(item.target).unlink(missing_ok=True)
            print(f"  reused   {name}: text, parameters, register entry and source are unchanged")
    if not todo:
        return report
    report.rerun = run_all(todo, jobs, f"Profile {profile}")
    report.problems += [f"{o.plan.notebook.name} failed: {o.error}" for o in report.rerun if o.error]
    return report
