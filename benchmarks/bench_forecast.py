"""A forecast of a network of 101,296 weights in units of one of its training steps (ratio), and the memory it takes.

Target: at most 10 steps. Three runs of a convolutional network on 28 x 28 images are recorded (AdamW, mini-batches
of 128), gradient flow matching is fitted to 2000 weights of two of them, and forecasts the third from its tenth state
to the end. A forecast costs the same whatever a training step costs: where convolutions or a large batch make steps
dear, as here, it is worth few of them; for a perceptron with as many weights a step takes a hundredth of the time, and
it is worth hundreds. Memory is the growth of the process's peak; that of the forecast should stay below the solver's
268 MB and the result.
"""

import torch
from common import pairwise, report
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gfm.experiments.learned.cost import grown, image_net
from gfm.forecasters import GradientFlowMatching
from gfm.forecasting.training import Training
from gfm.matching import Conditioning
from gfm.trajectories import record

STEPS, BATCH, WEIGHTS = 100, 128, 2000


def build():
    return image_net((42, 84, 90))


def megabytes(count):
    return None if count is None else round(count / 1e6)


images = torch.randn(1024, 1, 28, 28, generator=torch.Generator().manual_seed(0))
labels = (images[:, 0, :14].mean(dim=(1, 2)) * 40).round().long().clamp(-5, 4) + 5
loader = DataLoader(TensorDataset(images, labels), BATCH, shuffle=True)
runs = record(build, loader, None, F.cross_entropy, "AdamW", lr=1e-3, runs=3, steps=STEPS, states=True)
train, test = runs.split(2, 1)
net = build()
optimizer = torch.optim.AdamW(net.parameters(), 1e-3)


def step():
    optimizer.zero_grad()
    F.cross_entropy(net(images[:BATCH]), labels[:BATCH]).backward()
    optimizer.step()


rows = []
for aware in (False, True):
    model = GradientFlowMatching(
        view="coordinate", conditioning=Conditioning("auto", "auto", aware), training=Training(1e-3, 256, 5)
    )
    fit = grown(lambda model=model: model.fit(train, max_weights=WEIGHTS))
    prefix, kept = test.prefix(model.n), []
    forecast = grown(lambda model=model, prefix=prefix, kept=kept: kept.append(model.forecast(prefix)))
    times = pairwise(lambda model=model, prefix=prefix: model.forecast(prefix), step, rounds=5)
    rows.append({
        "knows the optimizer": "yes" if aware else "no",
        "p": runs.parameters,
        "horizon": model.horizon,
        "fit MB": megabytes(fit),
        "forecast MB": megabytes(forecast),
        "of it result": megabytes(kept[0].nbytes),
        "forecast ms": times["milliseconds"],
        "step ms": times["unit milliseconds"],
        "target": 10,
        "ratio": times["ratio"],
    })
report("forecast", __doc__, rows)
