"""The command line: run, build, check, status, data, forecast, keep, cite."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gfm.errors import GfmError, InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False,
                  help="Flows that describe training: run the notebooks, build the book, check its claims.")

_JOIN = "\x1f"  # between a parameter's name and its value, inside this file only


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="path below notebooks/, or just its name")],
    profile: Annotated[str, typer.Option(help="smoke, book or paper")] = "smoke",
    parameter: Annotated[list[str] | None, typer.Option(
        "-p", metavar="NAME VALUE", help="change a parameter; repeatable")] = None,
    in_place: Annotated[bool, typer.Option(
        "--in-place", help="refresh the committed outputs (profile smoke)")] = False,
    stored: Annotated[bool, typer.Option(
        "--stored", help="compute nothing: show what is stored, leave out cells never run")] = False,
) -> None:
    """Execute one notebook and print where it lies and what became of its claims."""
    from gfm.book import commands

    pairs = [(name, value) for name, value in (text.split(_JOIN, 1) for text in parameter or [])]
    commands.run(notebook, profile, pairs, in_place, stored)


@app.command()
def build(
    profile: Annotated[str, typer.Option(help="smoke, book or paper")] = "book",
    jobs: Annotated[int, typer.Option(min=1, help="notebooks run side by side")] = 2,
    no_run: Annotated[bool, typer.Option("--no-run", help="only make the pages")] = False,
    force: Annotated[bool, typer.Option("--force", help="run every notebook again")] = False,
) -> None:
    """Run the notebooks that are not current, build the pages, print where they lie."""
    from gfm.book import commands

    commands.build(profile, jobs, no_run, force)


@app.command()
def check(
    profile: Annotated[str | None, typer.Option(help="default: the best that was run")] = None,
) -> None:
    """Hold stored values against the register's bounds; exit code 1 and a table if any falls short."""
    from gfm.book import commands

    commands.check(profile)


@app.command()
def status() -> None:
    """The matrix of elements: notebook, profile, claims, state."""
    from gfm.book import commands

    commands.status()


@app.command()
def data(
    action: Annotated[str, typer.Argument(help="list or fetch")] = "list",
    name: Annotated[str | None, typer.Argument(help="data set to fetch")] = None,
) -> None:
    """List the data sets, or fetch one with its checksum verified."""
    from gfm.book import commands

    commands.data(action, name)


@app.command()
def forecast(
    observed: Annotated[str, typer.Argument(help="folder of checkpoints, or a trajectories file")],
    output: Annotated[str, typer.Argument(help="file to write (.npz)")],
    horizon: Annotated[int, typer.Option(help="recorded steps to forecast")],
    method: Annotated[str, typer.Option(help="a forecaster's name")] = "gfm",
    train: Annotated[str | None, typer.Option(help="longer runs to learn from")] = None,
) -> None:
    """Forecast weights from recorded ones: checkpoints in, trajectories out."""
    from gfm.book import commands

    commands.forecast(observed, output, horizon, method, train)


@app.command()
def keep(
    notebook: Annotated[str, typer.Argument(help="a notebook that was run")],
    profile: Annotated[str, typer.Option(help="smoke, book or paper")] = "paper",
) -> None:
    """Copy a run's results into book/results, where they are committed and reused."""
    from gfm.book import commands

    commands.keep(notebook, profile)


@app.command()
def cite(
    notebook: Annotated[str | None, typer.Argument(help="a notebook; default: the book")] = None,
) -> None:
    """BibTeX of the book and of what a notebook builds on."""
    from gfm.book import commands

    commands.cite(notebook)


def join_parameters(arguments: list[str]) -> list[str]:
    """``-p name value`` (and ``-p name=value``) as one argument each: options here take one word.

    Raises:
        InputError: A ``-p`` without its value.
    """
    out: list[str] = []
    rest = iter(arguments)
    for word in rest:
        out.append(word)
        if word == "-p":
            name = next(rest, "")
            value = name.partition("=")[2] if "=" in name else next(rest, None)
            if not name or value is None:
                raise InputError("-p takes a name and a value, as in `-p lr 0.05`.")
            out.append(name.partition("=")[0] + _JOIN + value)
    return out


def main() -> None:
    """Entry point: errors of the package are one sentence on stderr and exit code 2."""
    try:
        app(join_parameters(sys.argv[1:]), standalone_mode=True)
    except GfmError as error:
        print(f"gfm: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
