"""The commands. Each imports what it needs, so that ``gfm --help`` is quick."""

import os
import sys
from dataclasses import replace
from typing import Annotated

import typer

from gfm.errors import InputError

__all__ = ["BETWEEN", "app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False,
                  help="Flows that describe training: run the notebooks, build the book, check its claims.")

Device = Annotated[str | None, typer.Option(help="where to compute: auto (default), cpu, cuda or mps")]

BETWEEN = "\x1f"
"""Between the name and the value of a parameter, since an option takes a single word."""


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="path below notebooks/, or just its name")],
    profile: Annotated[str, typer.Option(help="smoke, book or paper")] = "smoke",
    parameter: Annotated[list[str] | None, typer.Option(
        "-p", metavar="NAME VALUE", help="change a parameter; repeatable")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="refresh the committed outputs (profile smoke)")] = False,
    stored: Annotated[bool, typer.Option(
        "--stored", help="compute nothing: show what is stored, leave out cells never run")] = False,
    device: Device = None,
) -> None:
    """Execute one notebook and print where it lies and what became of its claims."""
    _compute_on(device)
    from gfm.book import Register, reports
    from gfm.book.runs.execute import NotebookFailed
    from gfm.book.runs.execute import in_place as refresh
    from gfm.book.runs.plans import plan, run_all
    from gfm.book.verdicts import load

    register = Register.load()
    if in_place and (profile != "smoke" or parameter or stored):
        raise InputError("--in-place keeps whole smoke outputs: it takes no other profile, no -p and no --stored.")
    pairs = [(name, value) for name, _, value in (text.partition(BETWEEN) for text in parameter or [])]
    item = plan(register, notebook, profile, pairs)
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
        log = item.target.with_suffix(".log")
        print(f"gfm: {outcome.error}" + f"\n     log: {log}" * log.is_file(), file=sys.stderr)
        sys.exit(1)
    for entry in register.shown_in(item.notebook.name):
        if entry.claims:
            reports.print_verdicts(load(register, entry, item.profile))
    print(f"{outcome.seconds:.0f} s. The executed notebook: {item.target}")


@app.command()
def build(
    profile: Annotated[str, typer.Option(help="smoke, book or paper")] = "book",
    jobs: Annotated[int, typer.Option(min=1, help="notebooks run side by side")] = 2,
    no_run: Annotated[bool, typer.Option("--no-run", help="only make the pages")] = False,
    force: Annotated[bool, typer.Option("--force", help="run every notebook again")] = False, device: Device = None,
) -> None:
    """Run the notebooks that are not current, build the pages, print where they lie."""
    _compute_on(device)
    from gfm.book import Register, building

    report = building.build(Register.load(), profile, jobs, rerun=not no_run, force=force)
    if report.rerun or report.reused:
        print(f"Notebooks: {len(report.reused)} reused, {len(report.rerun)} run.")
    for problem in report.problems:
        print(f"gfm: {problem}", file=sys.stderr)
    if report.site:
        print(f"The book: {report.site.index}")
    if report.problems:
        sys.exit(1)


@app.command()
def publish(
    folder: Annotated[str, typer.Argument(help="where to put the pages; an earlier publication is replaced")],
) -> None:
    """Lay out the pages that were built as a folder for any static host, with checksums."""
    from gfm.book import Register
    from gfm.book.paths import build_folder
    from gfm.book.site.publish import publish as lay_out
    from gfm.checks import place

    root = Register.load().root
    problems = lay_out(root, build_folder(root) / "site", place("the folder", folder))
    for problem in problems:
        print(f"gfm: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"To be served as it is: {folder}")


@app.command()
def pdf() -> None:
    """Print every page that was built to a PDF (takes Chromium), and put all into one archive."""
    from gfm.book import Register
    from gfm.book.paths import build_folder
    from gfm.book.site.pdf import print_pages

    folder = build_folder(Register.load().root) / "site"
    made = print_pages(folder, folder / "pdf")
    print(f"{len(made)} pages in {folder / 'pdf'}, together in {folder / 'pdf.zip'}")


@app.command()
def cells(
    notebook: Annotated[list[str] | None, typer.Argument(help="notebooks; default: all")] = None,
    profile: Annotated[str, typer.Option(help="smoke, book or paper")] = "paper",
    element: Annotated[list[str] | None, typer.Option(help="an element's notebook; repeatable")] = None,
    json: Annotated[bool, typer.Option("--json", help="as JSON, with the parameters")] = False,
) -> None:
    """List the experiments that a profile's notebooks ask for, which of them are stored, and what the rest costs."""
    from gfm.book import Register, reports

    register = Register.load()
    named = [*(notebook or ()), *(register[name].notebook for name in element or ())]
    reports.cells(register, profile, list(dict.fromkeys(named)), as_json=json)


@app.command()
def cell(
    key: Annotated[str, typer.Argument(help="the cell's key, or how it begins (gfm cells)")],
    notebook: Annotated[list[str] | None, typer.Argument(help="where to look; default: all notebooks")] = None,
    profile: Annotated[str, typer.Option(help="smoke, book or paper")] = "paper", device: Device = None,
) -> None:
    """Compute one cell and store its result; a computation that was killed goes on from its checkpoint."""
    _compute_on(device)
    from gfm.book import Register
    from gfm.book.cells import cell as named
    from gfm.store import obtain

    found = named(Register.load(), key, profile, notebook or ())
    origin = obtain(found.experiment).provenance
    word = origin["why"] if origin["reused"] else "computed"
    print(f"{found.experiment.name} {found.key}: {word}, {origin['seconds']:.0f} s")


@app.command()
def check(profile: Annotated[str | None, typer.Option(help="default: the best that was run")] = None) -> None:
    """Hold stored values against the register's bounds; exit code 1 and a table if any falls short."""
    from gfm.book import reports

    reports.check(profile)


@app.command()
def status() -> None:
    """The matrix of elements: notebook, profile, claims, state."""
    from gfm.book import reports

    reports.status()


@app.command()
def data(
    action: Annotated[str, typer.Argument(help="list or fetch")] = "list",
    name: Annotated[str | None, typer.Argument(help="data set to fetch")] = None,
) -> None:
    """List the data sets, or fetch one with its checksum verified."""
    from gfm import data as sets
    from gfm.book.reports import table

    if action == "list" and name is None:
        rows = [[n, (load.__doc__ or "").strip().splitlines()[0]] for n, load in sets.available().items()]
        print(table(["name", "what it is"], rows))
    elif action == "fetch" and name:
        found = sets.load(name)
        shape = " x ".join(str(n) for n in found.inputs.shape)
        print(f"{found.name}: inputs {shape}, fingerprint {found.fingerprint[:16]}")
    else:
        raise InputError("Say `gfm data list` or `gfm data fetch NAME`.")


@app.command()
def forecast(
    observed: Annotated[str, typer.Argument(help="folder of checkpoints, or a trajectories file")],
    output: Annotated[str, typer.Argument(help="file or folder to write")],
    horizon: Annotated[int, typer.Option(help="recorded steps to forecast")],
    method: Annotated[str | None, typer.Option(help="a forecaster's name; default: gfm, which needs --train")] = None,
    train: Annotated[str | None, typer.Option(help="longer runs to learn from")] = None,
    model: Annotated[str | None, typer.Option(help="a saved model, instead of --method and --train")] = None,
    save_model: Annotated[str | None, typer.Option(help="file for what was learned with --train")] = None,
    max_weights: Annotated[int | None, typer.Option(help="most weights of each run to learn from")] = None,
    device: Annotated[str | None, typer.Option(help="where to train a network: cpu or cuda")] = None,
    as_: Annotated[str, typer.Option("--as", help="trajectories (all states, .npz), or checkpoint (the last "
                                                  "state, in the format read)")] = "trajectories",
    resample: Annotated[int | None, typer.Option(help="optimizer steps between states, to be interpolated")] = None,
    pattern: Annotated[str | None, typer.Option(help="glob pattern of the checkpoints' names")] = None,
    step: Annotated[str | None, typer.Option(help="regular expression whose group is the step in a name")] = None,
    key: Annotated[str | None, typer.Option(help="where the state dict is in a checkpoint")] = None,
) -> None:
    """Forecast weights from recorded ones: checkpoints in, trajectories or a checkpoint out."""
    from pathlib import Path

    from gfm.checks import one_of, place
    from gfm.forecasters.files import forecast_files, save_as_read

    one_of("--as", as_, ("trajectories", "checkpoint"))
    sources = [place(name, source).resolve() for name, source in (
        ("the observed run", observed), ("--train", train), ("--model", model)) if source is not None]
    for path in (place("the output", target) for target in (output, save_model) if target is not None):
        written = path if path.suffix == ".npz" or as_ == "checkpoint" else Path(f"{path}.npz")
        if written.is_file() and written.resolve() in sources:  # folders are refused where they are written
            raise InputError(f"{written} exists and is read: name another file for what is written.")
    given = {"pattern": pattern, "step": step, "key": key}
    reading = {name: value for name, value in given.items() if value is not None}
    found = forecast_files(observed, horizon, method, train, resample, model=model, save_model=save_model,
                           max_weights=max_weights, device=device, **reading)
    path = found.save(output) if as_ == "trajectories" else save_as_read(found, output, observed, **reading)
    if "left out" in found.meta:
        print(f"Left out of {observed}: {', '.join(found.meta['left out'])}.")
    carried = found.meta.get("carried along", [])
    if carried:
        more = f" and {len(carried) - 6} more" * (len(carried) > 6)
        print(f"Carried along, not forecast: {', '.join(carried[:6])}{more}.")
    if "order" in found.meta:
        print(f"The weights are in the order of the {found.meta['order']}, which need not be the module's: go by the "
              "tensors' names.")
    print(f"{path}: {found.runs} run(s), {found.parameters} weights, steps {found.steps[0]} (observed) to "
          f"{found.steps[-1]}, by {found.meta['forecast by']}.")
    if "held out" in found.meta:
        print(f"Training runs held out to decide on options and epochs: {found.meta['held out']}.")
    if "model" in found.meta:
        print(f"The fitted model: {found.meta['model']}")


@app.command()
def new(
    element: Annotated[str, typer.Argument(help="its name: small letters, digits and hyphens")],
    section: Annotated[str, typer.Option(help="central-flows, gradient-flow-matching or both")] = "central-flows",
    title: Annotated[str, typer.Option(help="heading of its page; default: the name in words")] = "",
) -> None:
    """Begin an element: a notebook that runs, its entry in the register, its profile."""
    from gfm.book import Register, scaffold

    root = Register.load().root
    for path in scaffold.new_element(root, element, section, title):
        print(f"wrote {path.relative_to(root)}")
    print(f"Next: gfm run {element} --in-place")


@app.command()
def keep(
    notebook: Annotated[str, typer.Argument(help="a notebook that was run")],
    profile: Annotated[str, typer.Option(help="smoke, book or paper")] = "paper",
) -> None:
    """Copy a run's results into book/results, where they are committed and reused."""
    from gfm.book import Register
    from gfm.book.runs import committed

    kept = committed.keep(Register.load(), notebook, profile)
    size = sum(f.stat().st_size for f in kept.files) / 1e6
    print(f"{len(kept.files)} files ({size:.1f} MB) kept in book/results/{profile}; commit them.")
    if kept.left_out:
        print(f"Left out, since their arrays are too large to be committed: {', '.join(kept.left_out)}. "
              "The pages, data and verdicts made from them are kept.")


@app.command()
def cite(notebook: Annotated[str | None, typer.Argument(help="a notebook; default: the book")] = None) -> None:
    """BibTeX of the book and of what a notebook builds on."""
    from gfm.book import Register
    from gfm.book.site.citing import bibtex

    print(bibtex(Register.load(), notebook))


def _compute_on(device: str | None) -> None:
    """Hand the device on to the experiments of this process and of the kernels it starts."""
    from gfm.device import VARIABLE, device_for

    if device is not None:
        os.environ[VARIABLE] = device
    if os.environ.get(VARIABLE):
        import torch

        device_for(torch.float32)
