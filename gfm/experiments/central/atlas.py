"""The same measurement for many networks and learning rates: one stored run for each cell."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gfm import nets
from gfm.central import Run
from gfm.errors import InputError, NotStoredError
from gfm.experiments.central.flow_run import noted_run
from gfm.measures.comparison import Comparison
from gfm.store.experiment import Obtain

__all__ = ["TITLES", "atlas", "cell", "left_out", "too_short"]

TITLES = {name: net.title for name, net in nets.available().items()}


def cell(net: str, **parameters: Any) -> dict[str, Any]:
    """Parameters of :class:`FlowRun` for a network, with suitable data.

    Networks for tokens sort short sequences; the others classify four digits (one output per class).
    ``parameters`` override these.

    Raises:
        UnknownNameError: There is no such network.
    """
    if net in nets.available("tokens"):
        chosen: dict[str, Any] = {"data": "sorting", "length": 4}
    else:
        chosen = {"data": "digits", "classes": 4, "targets": "one_hot"}
        if net not in nets.available():
            nets.build(net)  # raises an error that lists the networks
    return {**chosen, "net": net, **parameters}


def atlas(obtain: Obtain, cells: Mapping[str, Mapping[str, Any]], **common: Any) -> dict[tuple[str, float], Run]:
    """One run for every network and learning rate.

    Args:
        obtain: gives the result of an experiment; a notebook's ``element.obtain``.
        cells: network -> its own parameters; ``lr`` is a list of learning rates. For example
            ``{"cnn": {"lr": [0.1, 0.2], "steps": 300}}``.
        common: parameters of all cells; a network's own override them.

    Returns:
        (network, learning rate) -> run, in the order given. If only stored results may be used
        (``gfm run --stored``), cells that were never run are left out.

    Raises:
        InputError: A network has no learning rates.
        NotStoredError: Only stored runs may be used, and no cell has one.
        UnknownNameError: There is no such network.
    """
    runs = {}
    for net, own in cells.items():
        rates = own.get("lr")
        if not isinstance(rates, (list, tuple)) or not rates:
            raise InputError(f"The atlas needs a list of learning rates for {net!r}: {{'lr': [0.1, 0.2], ...}}.")
        for lr in rates:
            with suppress(NotStoredError):
                runs[net, float(lr)] = noted_run(obtain, **cell(net, **{**common, **own, "lr": float(lr)}))
    if not runs:
        raise NotStoredError("None of these cells has been run; run one, or leave --stored away.")
    return runs


def left_out(cells: Mapping[str, Mapping[str, Any]], runs: Mapping[tuple[str, float], Run]) -> str:
    """A sentence on the cells that have no run; empty if there are none."""
    missing = [
        f"{TITLES[net]} at {lr:g}" for net, own in cells.items() for lr in own["lr"] if (net, float(lr)) not in runs
    ]
    if not missing:
        return ""
    return f"Not run yet under this profile, and left out below: {', '.join(missing)}."


def too_short(cells: Mapping[tuple[str, float], Comparison]) -> str:
    """A sentence on the cells that cannot be judged, and what there is of each; empty if all can be.

    Args:
        cells: (network or another name, learning rate) -> its comparison.
    """
    missing = [f"{TITLES.get(name, name)} at {lr:g} ({compared.shortage()})"
               for (name, lr), compared in cells.items() if not compared.judged]
    return f"Not judged: {'; '.join(missing)}." if missing else ""
