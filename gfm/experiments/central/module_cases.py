"""The modules and losses that the book tries: what people bring, each with a dozen examples and a few weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from gfm.experiments.central.modules import Case, rows
from gfm.nets.norms import LayerNorm

__all__ = ["LOSSES", "MODULES"]

_CLASS_WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


class _Around(nn.Module):
    """A layer that a function applies to the inputs, and a linear layer to three outputs."""

    def __init__(self, layer: nn.Module, use: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.use, self.last = layer, use, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.use(self.layer, x))


def _net(*between: nn.Module, first: Callable[[nn.Linear], nn.Module] = lambda layer: layer) -> nn.Sequential:
    return nn.Sequential(first(nn.Linear(4, 4)), *(between or (nn.Tanh(),)), nn.Linear(4, 3))


def _recurrent(kind: Callable[..., nn.RNNBase]) -> nn.Module:
    return _Around(kind(2, 4, batch_first=True), lambda layer, x: layer(x.view(-1, 2, 2))[0][:, -1])


def _attention(layer: nn.Module, x: Tensor) -> Tensor:
    pairs = torch.stack([x, x.flip(1)], 1)
    return layer(pairs, pairs, pairs, need_weights=False)[0].mean(1)


def _encoder(norm: Callable[[int], nn.Module]) -> nn.Module:
    layer: Any = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
    layer.norm1, layer.norm2 = norm(4), norm(4)
    return _Around(layer, lambda layer, x: layer(torch.stack([x, x.flip(1)], 1)).mean(1))


class _Tied(nn.Module):
    """Embeds tokens, and reads the outputs off the same rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.line = nn.Embedding(6, 4), nn.Linear(4, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.tanh(self.line(self.rows(tokens).mean(1))) @ self.rows.weight.T


def _branching(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.tanh(layer(x)) if x.sum() > 0 else torch.sin(layer(x))


def _filling(layer: nn.Module, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for i in range(4):
        out[:, i] = torch.tanh(layer(x)[:, i])
    return out


def _frozen() -> nn.Module:
    net = _net()
    net[0].requires_grad_(False)
    return net


class _Dict(nn.Sequential):
    """Returns its outputs in a dict."""

    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x), "hidden": None}


def _tokens() -> tuple[Tensor, Tensor]:
    return torch.randint(0, 6, (12, 3)), torch.randint(0, 3, (12,))


def _ignored() -> tuple[Tensor, Tensor]:
    x, y = rows()
    y[:3] = -100
    return x, y


def _decay(net: nn.Module) -> Tensor:
    return 0.1 * torch.stack([q.square().sum() for q in net.parameters()]).sum()


def _weighted(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y, weight=_CLASS_WEIGHTS.double())


_single = partial(rows, torch.float32)
_checkpointed = partial(checkpoint, use_reentrant=False)
#: Modules, with the cross-entropy.
MODULES = (
    Case("fully connected, tanh", _net),
    Case("fully connected, ReLU", lambda: _net(nn.ReLU())),
    Case("fully connected, float32", _net, _single),
    Case("convolution", lambda: nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 3))),
    Case("LSTM", lambda: _recurrent(nn.LSTM)),
    Case("GRU", lambda: _recurrent(nn.GRU)),
    Case("RNN", lambda: _recurrent(nn.RNN)),
    Case("attention, train mode", lambda: _Around(nn.MultiheadAttention(4, 2, batch_first=True), _attention)),
    Case("attention, eval mode", lambda: _Around(nn.MultiheadAttention(4, 2, batch_first=True), _attention).eval()),
    Case("encoder layer, norms of `gfm.nets.norms`", lambda: _encoder(LayerNorm)),
    Case("encoder layer as it comes", lambda: _encoder(nn.LayerNorm)),
    Case("embedding, tied weights", _Tied, _tokens),
    Case("embedding, `max_norm`", lambda: nn.Sequential(
        nn.Embedding(6, 4, max_norm=0.5), nn.Flatten(), nn.Linear(12, 3)), _tokens),
    Case("batch norm, eval mode", lambda: _net(nn.BatchNorm1d(4), nn.Tanh()).eval()),
    Case("batch norm, train mode", lambda: _net(nn.BatchNorm1d(4), nn.Tanh())),
    Case("dropout, train mode", lambda: _net(nn.Dropout(0.5), nn.Tanh())),
    Case("layer norm of torch", lambda: _net(nn.LayerNorm(4), nn.Tanh())),
    Case("weight norm", lambda: _net(first=parametrizations.weight_norm)),
    Case("spectral norm, eval mode", lambda: _net(first=parametrizations.spectral_norm).eval()),
    Case("activation checkpointing", lambda: _Around(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), _checkpointed)),
    Case("branch on the data", lambda: _Around(nn.Linear(4, 4), _branching)),
    Case("mean over the batch", lambda: _Around(nn.Linear(4, 4), lambda layer, x: torch.tanh(layer(x - x.mean(0))))),
    Case("output filled in place", lambda: _Around(nn.Linear(4, 4), _filling)),
    Case("`torch.compile`", lambda: torch.compile(_net(), backend="eager")),  # type: ignore[arg-type,return-value]
    Case("`DataParallel`", lambda: nn.DataParallel(_net())),
    Case("TorchScript", lambda: torch.jit.script(_net().double())),
    Case("dict of outputs", lambda: _Dict(*_net())),
    Case("dict of outputs, `output=`", lambda: _Dict(*_net()), options={"output": "logits"},
         by_hand=lambda net, x, y: F.cross_entropy(net(x)["logits"], y)),
    Case("frozen layers", _frozen),
    Case("module on meta", lambda: _net().to("meta")),
)
#: Losses, with a fully connected module.
LOSSES = (
    Case("`\"mse\"` on classes", _net, loss=lambda net: "mse",
         by_hand=lambda net, x, y: 0.5 * (net(x) - F.one_hot(y, 3)).square().sum(1).mean()),
    Case("class weights, loss of torch", _net, _single, lambda net: nn.CrossEntropyLoss(_CLASS_WEIGHTS), _weighted),
    Case("class weights, float32 function", _net, _single,
         lambda net: partial(F.cross_entropy, weight=_CLASS_WEIGHTS), _weighted),
    Case("reads `module.parameters()`", _net, loss=lambda net: lambda o, y: F.cross_entropy(o, y) + _decay(net),
         by_hand=lambda net, x, y: F.cross_entropy(net(x), y) + _decay(net)),
    Case("calls the module again", _net,
         loss=lambda net: lambda o, y: F.cross_entropy(o, y) + net(torch.ones(2, 4).to(o)).square().mean(),
         by_hand=lambda net, x, y: F.cross_entropy(net(x), y) + net(torch.ones(2, 4).to(x)).square().mean()),
    Case("`penalty=`", _net, options={"penalty": lambda named: 0.2 * named["2.weight"].pow(4).sum()},
         by_hand=lambda net, x, y: (
             F.cross_entropy(net(x), y) + 0.2 * net.get_parameter("2.weight").pow(4).sum())),
    Case("`weight_decay=`", _net, options={"weight_decay": 0.2},
         by_hand=lambda net, x, y: F.cross_entropy(net(x), y) + _decay(net)),
    Case("ignored targets in pieces", _net, _ignored, lambda net: lambda o, y: F.cross_entropy(o, y),
         options={"batch_size": 5}),
    Case("the same, `loss_weight=`", _net, _ignored, lambda net: lambda o, y: F.cross_entropy(o, y),
         options={"batch_size": 5, "loss_weight": lambda y: (y != -100).sum()}),
    Case("sum over examples in pieces", _net, loss=lambda net: nn.CrossEntropyLoss(reduction="sum"),
         options={"batch_size": 5}),
)
