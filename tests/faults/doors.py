"""The public doors of the package, each with a call that works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from bad_calls import Door
from torch import nn

import gfm
from gfm import data, nets, optimizers
from gfm.forecasting.training import Training
from gfm.matching import Conditioning, IncrementPath, Network, Solver, Tuning
from gfm.trajectories import Trajectories, read_checkpoints, record

RANDOM = np.random.default_rng(0)
RUNS = Trajectories(np.cumsum(RANDOM.normal(size=(6, 21, 2)), axis=1))
INPUTS, TARGETS = torch.from_numpy(RANDOM.normal(size=(12, 3))), torch.from_numpy(RANDOM.normal(size=(12, 1)))
SMALL = Training(epochs=2, patience=2)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).double()


def problem(**changes: Any) -> gfm.Problem:
    return gfm.Problem(**{"module": module(), "inputs": INPUTS, "targets": TARGETS, "loss": "mse", **changes})


def central(**changes: Any) -> gfm.central.Run:
    given = {"problem": problem(), "optimizer": optimizers.GradientDescent(lr=0.1), "steps": 2}
    return gfm.central.run(**{**given, **changes})


def nowcaster(**changes: Any) -> gfm.Nowcaster:
    model = module()
    given = {"optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "model": model}
    return gfm.Nowcaster(**{**given, **changes})


def recorded(**changes: Any) -> Trajectories:
    given = {
        "build": module,
        "inputs": INPUTS,
        "targets": TARGETS,
        "loss": nn.functional.mse_loss,
        "runs": 2,
        "steps": 3,
        "lr": 0.1,
    }
    return record(**{**given, **changes})


def fitted(forecaster: str, **changes: Any) -> Any:
    options = {"training": SMALL} if forecaster in ("lfn", "lstm", "transformer", "memoryless") else {}
    one = gfm.forecasters.available()[forecaster](observed=4, **options)
    return one.fit(**{"train": RUNS, **changes})


def forecast(forecaster: str, **changes: Any) -> Any:
    one = gfm.forecasters.available()[forecaster](observed=4).fit(RUNS)
    return one.forecast(**{"prefix": RUNS.prefix(4), "horizon": 3, **changes})


RATES = {"lr": "positive"}
MOMENTS = {**RATES, "beta2": "share", "eps": "number", "bias_correction": "flag"}


def doors(folder: Path) -> list[Door]:
    """All doors; files are written below ``folder``."""
    RUNS.save(folder / "runs.npz")
    central().save(folder / "run.npz")
    saved = folder / "saved"
    saved.mkdir()
    for step in (0, 1):
        torch.save(module().state_dict(), saved / f"step{step}.pt")
    rules = [
        Door(name, cls, good, kinds)
        for name, cls, good, kinds in (
            ("GradientDescent", optimizers.GradientDescent, {"lr": 0.1}, RATES),
            ("HeavyBall", optimizers.HeavyBall, {"lr": 0.1, "momentum": 0.9}, {**RATES, "momentum": "share"}),
            ("RMSProp", optimizers.RMSProp, {"lr": 0.1, "beta2": 0.9, "eps": 0.1, "bias_correction": True}, MOMENTS),
            (
                "ScalarRMSProp",
                optimizers.ScalarRMSProp,
                {"lr": 0.1, "beta2": 0.9, "eps": 0.1, "bias_correction": True},
                MOMENTS,
            ),
            (
                "Adam",
                optimizers.Adam,
                {"lr": 0.1, "beta2": 0.9, "eps": 0.1, "beta1": 0.9, "bias_correction": True},
                {**MOMENTS, "beta1": "share"},
            ),
            (
                "Muon",
                optimizers.Muon,
                {"lr": 0.1, "momentum": 0.9, "ns_steps": 5},
                {**RATES, "momentum": "share", "ns_steps": "positive count"},
            ),
            ("Shampoo", optimizers.Shampoo, {"lr": 0.1, "damping": 1e-4}, {**RATES, "damping": "positive"}),
            (
                "Filter",
                optimizers.Filter,
                {"n": (1.0,), "d": (1.0, -0.5), "corrected": False},
                {"corrected": "flag", "n": "object", "d": "object"},
            ),
        )
    ]
    options = [
        Door(
            "Settings",
            gfm.central.Settings,
            {},
            {
                "substeps": "positive count",
                "adaptive": "flag",
                "dense": "flag",
                "refresh_substeps": "flag",
                "eigen_every": "positive count",
                "track": "positive count",
                "cap": "positive count",
                "tolerance": "positive",
                "discrete_tolerance": "positive",
                "critical_share": "positive",
                "max_effective": "positive",
                "coordinates": "count",
                "curvature_penalty": "flag",
                "band": "number",
            },
            {("max_effective", "inf")},
        ),
        Door(
            "Minibatch",
            gfm.central.Minibatch,
            {"batch_size": 4, "order": "shuffled", "seed": 0},
            {"batch_size": "positive count", "order": "name", "seed": "seed"},
        ),
        Door(
            "Training",
            Training,
            {},
            {
                "rate": "positive",
                "batch": "positive count",
                "epochs": "positive count",
                "patience": "positive count",
                "seed": "seed",
                "decay": "number",
                "schedule": "name",
            },
        ),
        Door("Conditioning", Conditioning, {}, {"context": "name", "scale": "name", "optimizer_state": "name"}),
        Door(
            "Network",
            Network,
            {},
            {"hidden": "counts", "state": "name", "knots": "positive count", "times": "positive count"},
        ),
        Door(
            "Solver",
            Solver,
            {},
            {"method": "name", "substeps": "positive count", "dtype": "name", "memory": "positive count"},
        ),
        Door("Tuning", Tuning, {}, {"steps": "positive count", "rate": "positive", "rounds": "count", "seed": "seed"}),
        Door("IncrementPath", IncrementPath, {}, {"within": "name", "noise": "number", "span": "positive count"}),
    ]
    runs = [
        Door(
            "Problem",
            problem,
            {},
            {
                "module": "object",
                "inputs": "tensor",
                "targets": "tensor",
                "loss": "name",
                "batch_size": "positive count",
                "weight_decay": "number",
            },
        ),
        Door(
            "central.run",
            central,
            {},
            {
                "problem": "object",
                "optimizer": "object",
                "steps": "positive count",
                "processes": "object",
                "substeps": "positive count",
                "warmup": "count",
                "seed": "seed",
                "w0": "tensor",
                "settings": "object",
                "minibatch": "object",
            },
            {("w0", "None"), ("processes", "[]")},
        ),
        Door("central.Run.load", gfm.central.Run.load, {"path": folder / "run.npz"}, {"path": "file"}),
        Door(
            "record",
            recorded,
            {},
            {
                "build": "object",
                "inputs": "tensor",
                "loss": "name",
                "optimizer": "name",
                "lr": "positive",
                "runs": "positive count",
                "steps": "positive count",
                "batch": "positive count",
                "states": "flag",
                "seed": "seed",
            },
        ),
        Door(
            "Nowcaster",
            nowcaster,
            {},
            {
                "optimizer": "object",
                "model": "object",
                "seen": "positive count",
                "every": "positive count",
                "ahead": "counts",
                "period": "positive count",
                "gate": "flag",
            },
        ),
        Door(
            "Trajectories",
            Trajectories,
            {"weights": RUNS.weights},
            {
                "weights": "array",
                "steps": "array",
                "groups": "object",
                "meta": "object",
                "states": "object",
                "layout": "object",
            },
            {("steps", "None"), ("groups", "[]"), ("groups", "'abc'"), ("states", "{'a': 1}"), ("meta", "{'a': 1}")},
        ),
        Door(
            "Trajectories.load",
            Trajectories.load,
            {"path": folder / "runs.npz"},
            {"path": "file", "memory_map": "flag"},
        ),
        Door(
            "read_checkpoints",
            read_checkpoints,
            {"folder": saved},
            {"folder": "file", "pattern": "name", "order": "name"},
        ),
    ]
    made = [
        Door(
            f"data.{name}",
            lambda name=name, **given: data.load(name, **given),
            {"n": 20},
            {"n": "positive count", "seed": "seed", "dtype": "dtype", **more},
        )
        for name, more in (
            ("digits", {"classes": "positive count", "targets": "name", "noise": "share"}),
            ("moons", {"noise": "number", "targets": "name"}),
            ("waves", {"dims": "positive count", "frequency": "positive"}),
        )
    ]
    made.append(Door("data.load", lambda name: data.load(name, n=20), {"name": "digits"}, {"name": "name"}))
    images = data.load("digits", n=20)
    made += [
        Door(
            f"nets.{name}",
            lambda name=name, **given: nets.build(name, images, **given),
            {"size": "tiny"},
            {
                "size": "name",
                "activation": "name",
                "dtype": "dtype",
                "seed": "seed",
                "outputs": "positive count",
                **more,
            },
        )
        for name, more in (
            ("mlp", {"hidden": "counts"}),
            ("cnn", {"channels": "counts", "hidden": "positive count"}),
            ("vit", {"depth": "positive count", "heads": "positive count", "width": "positive count"}),
        )
    ]
    made.append(Door("nets.build", lambda name: nets.build(name, images), {"name": "mlp"}, {"name": "name"}))
    names = sorted(gfm.forecasters.available())
    learned = [
        Door(f"{name}", gfm.forecasters.available()[name], {"observed": 4}, {"observed": "positive count"})
        for name in names
    ]
    fits = [
        Door(
            f"{name}.fit",
            lambda name=name, **given: fitted(name, **given),
            {},
            {"train": "object", "validation": "object", "max_weights": "positive count", "device": "name"},
        )
        for name in ("hold", "ols", "geometric", "affine-flow")
    ]
    forecasts = [
        Door(
            f"{name}.forecast",
            lambda name=name, **given: forecast(name, **given),
            {},
            {"prefix": "array", "horizon": "positive count"},
        )
        for name in ("hold", "ols", "geometric", "affine-flow")
    ]
    return [*rules, *options, *runs, *made, *learned, *fits, *forecasts]
