"""The same measurement over many networks and learning rates: one stored run for each cell."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from gfm import nets
from gfm.central import Run
from gfm.errors import InputError, NotStoredError
from gfm.experiments.central.flow_run import FlowRun, flow_run
from gfm.store.experiment import Obtain

__all__ = ["TITLES", "atlas", "cell", "left_out"]

TITLES = {name: net.title for name, net in nets.available().items()}


def cell(net: str, **parameters: Any) -> dict[str, Any]:
    """Parameters of :class:`FlowRun` for a network on the data that suit it.

    Networks for tokens sort short sequences; the others tell four digits apart (one output a
    class). ``parameters`` are set over these, lists as tuples.

    Raises:
        UnknownNameError: a network that does not exist. InputError: a parameter that a run lacks.
    """
    if net in nets.available("tokens"):
        chosen: dict[str, Any] = {"data": "sorting", "length": 4}
    else:
        chosen = {"data": "digits", "classes": 4, "targets": "one_hot"}
        if net not in nets.available():
            nets.build(net)  # says which networks there are
    known = set(FlowRun.__dataclass_fields__)
    for name in parameters:
        if name not in known:
            raise InputError(f"a run has no parameter {name!r}; it has {', '.join(sorted(known))}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}
    return {**chosen, "net": net, **values}


def atlas(obtain: Obtain, cells: Mapping[str, Mapping[str, Any]], **common: Any) -> dict[tuple[str, float], Run]:
    """One run for every network and learning rate.

    Args:
        obtain: how to come by a run: a notebook's ``element.obtain``.
        cells: network -> its own parameters; ``lr`` is a list of learning rates. For example
            ``{"cnn": {"lr": [0.1, 0.2], "steps": 300}}``.
        common: parameters of all cells; a network's own come over them.

    Returns: (network, learning rate) -> run, in the order given. Where only stored results may be used
        (``gfm run --stored``), cells that were never run are left out.

    Raises:
        InputError: a network without learning rates.
        NotStoredError: no cell is stored; see also :func:`cell`.
    """
    runs = {}
    for net, own in cells.items():
        rates = own.get("lr")
        if not isinstance(rates, (list, tuple)) or not rates:
            raise InputError(f"the atlas needs a list of learning rates for {net!r}: {{'lr': [0.1, 0.2], ...}}")
        for lr in rates:
            # A run read from the store warns nobody; a fresh one should not print other things. See run.notes.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    runs[net, float(lr)] = flow_run(obtain, **cell(net, **{**common, **own, "lr": float(lr)}))
                except NotStoredError:
                    continue
    if not runs:
        raise NotStoredError("none of these cells has been run; run one, or leave --stored away")
    return runs


def left_out(cells: Mapping[str, Mapping[str, Any]], runs: Mapping[tuple[str, float], Run]) -> str:
    """A sentence about the cells that have no run; empty if all have one."""
    missing = [
        f"{TITLES[net]} at {lr:g}" for net, own in cells.items() for lr in own["lr"] if (net, float(lr)) not in runs
    ]
    if not missing:
        return ""
    return f"Not run yet under this profile, and left out below: {', '.join(missing)}."
