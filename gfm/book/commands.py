"""What the commands do: each prints what it found and raises SystemExit with its code."""

from __future__ import annotations

import sys
from dataclasses import replace

from gfm.book.paths import check_profile
from gfm.book.register import SECTIONS, Register
from gfm.book.verdicts import FAILS, HOLDS, NOT_RUN, SHAPE, Stored, best, load
from gfm.errors import InputError, UnreadableFileError

__all__ = ["build", "check", "cite", "data", "forecast", "keep", "run", "status"]


def run(name: str, profile: str, parameters: list[tuple[str, str]], in_place: bool, stored: bool = False) -> None:
    """``gfm run``: exit code 1 if a cell fails, 2 if what was asked makes no sense."""
    from gfm.book.runs.execute import NotebookFailed
    from gfm.book.runs.execute import in_place as refresh
    from gfm.book.runs.plans import plan, run_all

    register = Register.load()
    if in_place and (profile != "smoke" or parameters):
        raise InputError("--in-place keeps the smoke outputs; it takes no other profile and no -p.")
    item = plan(register, name, profile, parameters)
    if in_place:
        try:
            changed = refresh(item.notebook.path)
        except NotebookFailed as error:
            sys.exit(f"gfm: {error}")
        print(f"notebooks/{item.notebook.name}: outputs {'changed' if changed else 'unchanged'}")
        return
    given = ", ".join(f"{k} = {v!r}" for k, v in item.parameters.items()) or "its defaults"
    print(f"Running {item.notebook.name} with {given} ...", flush=True)
    outcome = run_all([replace(item, only_stored=stored)])[0]
    if outcome.error:
        print(f"gfm: {outcome.error}", file=sys.stderr)
        print(f"     log: {item.target.with_suffix('.log')}", file=sys.stderr)
        sys.exit(1)
    for entry in register:
        if entry.notebook == item.notebook.name and entry.claims:
            _print_verdicts(load(register, entry, item.profile))
    print(f"{outcome.seconds:.0f} s. The executed notebook: {item.target}")


def build(profile: str, jobs: int, no_run: bool, force: bool) -> None:
    """``gfm build``: exit code 1 if a notebook failed or the pages have faults."""
    from gfm.book.building import build as make

    report = make(Register.load(), profile, jobs, rerun=not no_run, force=force)
    if report.rerun or report.reused:
        print(f"Notebooks: {len(report.reused)} reused, {len(report.rerun)} run.")
    for problem in report.problems:
        print(f"gfm: {problem}", file=sys.stderr)
    if report.site:
        print(f"The book: {report.site.index}")
    if report.problems:
        sys.exit(1)


def check(profile: str | None) -> None:
    """``gfm check``: exit code 1 if a judged claim falls short or a stored verdict is stale or unreadable."""
    if profile is not None:
        check_profile(profile)
    from gfm.book.site.origins import earlier, results

    register = Register.load()
    short, stale, held, absent, broken = [], [], 0, [], []
    rests, old, aged = 0, 0, []
    for entry in register:
        try:
            stored = load(register, entry, profile) if profile else best(register, entry)
        except UnreadableFileError as error:
            broken.append(f"{entry.id} ({str(error).rstrip('.')})")
            continue
        if stored is None:
            absent += [entry.id] * bool(entry.notebook and entry.claims)
            continue
        held += sum(v.verdict == HOLDS for v in stored.verdicts)
        short += [(entry.id, stored.profile, v) for v in stored.verdicts
                  if v.verdict in (FAILS, SHAPE)]
        absent += [f"{entry.id} {v.claim.id}" for v in stored.verdicts if v.verdict == NOT_RUN]
        stale += [f"{entry.id} {name}" for name in stored.stale]
        of, then = len(results(stored.meta)), len(earlier(stored.meta))
        rests, old = rests + of, old + then
        aged += [f"{entry.id} ({then} of {of}, {stored.profile})"] * bool(then)
    print(f"{held} claims hold; {len(short)} fall short; {len(absent)} not run.")
    if rests:
        print(f"{old} of {rests} stored results come from an earlier state of the source.")
    if short:
        print("\n" + _table(["element", "claim", "profile", "value", "bound", "verdict"], [
            [name, v.claim.id, p, v.shown, str(v.bound), v.verdict] for name, p, v in short]))
    if absent:
        print("\nNot run: " + ", ".join(absent))
    if stale:
        print("\nThe register has changed since these were judged; run them again: " + ", ".join(stale))
    if aged:
        print("\nFrom an earlier state of the source: " + ", ".join(aged))
    if broken:
        print("\nCannot be read: " + ", ".join(broken))
    if short or stale or broken:
        sys.exit(1)


def status() -> None:
    """``gfm status``: the matrix of elements."""
    from gfm.book.site.overview import state_of

    register = Register.load()
    rows = []
    for section, title in SECTIONS.items():
        rows.append([title.upper(), "", "", "", ""])
        for entry in (e for e in register if e.section == section):
            try:
                stored = best(register, entry)
            except UnreadableFileError:
                rows.append([entry.id, entry.notebook or "–", "–", "–", "unreadable verdicts: run it again"])
                continue
            held = sum(v.verdict == HOLDS for v in stored.verdicts) if stored else 0
            rows.append([entry.id, entry.notebook or "–", stored.profile if stored else "–",
                         f"{held}/{len(entry.claims)}", state_of(entry, stored)])
    print(_table(["element", "notebook", "profile", "hold", "state"], rows))


def data(action: str, name: str | None) -> None:
    """``gfm data list`` and ``gfm data fetch NAME``."""
    from gfm import data as sets

    if action == "list" and name is None:
        rows = [[n, (load.__doc__ or "").strip().splitlines()[0]] for n, load in sets.available().items()]
        print(_table(["name", "what it is"], rows))
    elif action == "fetch" and name:
        found = sets.load(name)
        shape = " x ".join(str(n) for n in found.inputs.shape)
        print(f"{found.name}: inputs {shape}, fingerprint {found.fingerprint[:16]}")
    else:
        raise InputError("Say `gfm data list` or `gfm data fetch NAME`.")


def forecast(observed: str, output: str, horizon: int, method: str, train: str | None) -> None:
    """``gfm forecast``: the forecast states into a trajectories file."""
    from gfm.forecasters.files import forecast_files

    found = forecast_files(observed, horizon, method, train)
    path = found.save(output)
    print(f"{path}: {found.runs} run(s), {found.parameters} weights, steps {found.steps[0]} (observed) to "
          f"{found.steps[-1]}, by {method}.")


def keep(name: str, profile: str) -> None:
    """``gfm keep``: a run's results into ``book/results``, to be committed."""
    from gfm.book.runs.keeping import keep as copy

    register = Register.load()
    kept = copy(register, name, profile)
    size = sum(f.stat().st_size for f in kept.files) / 1e6
    print(f"{len(kept.files)} files ({size:.1f} MB) kept in book/results/{profile}; commit them.")
    if kept.left_out:
        print(f"Left out, since their arrays are too large to be committed: {', '.join(kept.left_out)}. "
              "The pages, data and verdicts made from them are kept.")


def cite(name: str | None) -> None:
    """``gfm cite``: BibTeX entries, ready to paste."""
    from gfm.book.site.citing import bibtex

    print(bibtex(Register.load(), name))


def _print_verdicts(stored: Stored | None) -> None:
    if stored and stored.verdicts:
        print(_table(["claim", "value", "bound", "verdict", "sentence"], [
            [v.claim.id, v.shown, str(v.bound), v.verdict, v.claim.sentence]
            for v in stored.verdicts]))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["-" * len(h) for h in head], *rows]
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(str(c).ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
                     for line in lines)
