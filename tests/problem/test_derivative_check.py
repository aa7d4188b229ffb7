"""How derivatives are examined: in either dtype what is wrong is found, and what is right is not refused."""

import pytest
import torch
from brought import NARROW, WEIGHTS, Net, away, data, holds, outputs_of
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import gfm
from gfm.errors import InputError


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.first, self.last = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 3)
        self.reentrant = reentrant

    def forward(self, x):
        return self.last(checkpoint(self.first, x, use_reentrant=self.reentrant))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", ["cross_entropy", NARROW, nn.CrossEntropyLoss(weight=WEIGHTS)])
def test_activation_checkpointing_is_refused_in_any_dtype(loss):
    x, y = data(dtype=torch.float32)
    with pytest.raises(InputError, match="runs Sequential once more .* checkpointing"):
        gfm.Problem(Checkpointed(False), x, y, loss)
    with pytest.raises(InputError, match="first derivatives .* are wrong.* runs Sequential without gradients"):
        gfm.Problem(Checkpointed(True), x, y, loss)


def half_hidden(z):
    return torch.tanh(z) + z.detach()


@pytest.mark.parametrize("loss", ["cross_entropy", NARROW])
@pytest.mark.parametrize(("between", "words"), [
    (half_hidden, "first derivatives .* are wrong: .* where differences of the loss give"),
    (lambda z: F.layer_norm(z, (6,)), "third derivatives .* are wrong: .*NativeLayerNorm"),
    (lambda z: torch._weight_norm(z, z[:, :1], 0), "derivatives .* are wrong: .*WeightNorm"),
    (lambda z: z + (z * 0).norm(dim=1, keepdim=True), "second derivatives .* are not finite"),
    (lambda z: z + (z * 0).abs().sqrt(), "gradient .* is not finite"),
    (lambda z: z / 0.0, "loss .* is (nan|inf)"),
])
def test_wrong_and_missing_derivatives_are_found_also_where_float64_is_out_of_reach(loss, between, words):
    with pytest.raises(InputError, match=words) as caught:
        gfm.Problem(Net(between, dtype=torch.float32), *data(dtype=torch.float32), loss)
    assert "\n" not in str(caught.value) and "say" not in str(caught.value)


class Frozen(torch.autograd.Function):
    """tanh whose derivative has none."""

    @staticmethod
    def forward(context, z):
        context.save_for_backward(z)
        return torch.tanh(z)

    @staticmethod
    def backward(context, slope):
        return slope * (1 - torch.tanh(context.saved_tensors[0]).detach() ** 2)


class Narrow(Net):
    """Returns float32, whatever the weights are."""

    def forward(self, x):
        return super().forward(x).float()


def test_symmetric_but_wrong_second_derivatives_are_found_in_float32():
    x, y = data(dtype=torch.float32)
    for net in (Net, Narrow):
        with pytest.raises(InputError, match="(second|third) derivatives .* are wrong"):
            gfm.Problem(net(Frozen.apply, dtype=torch.float32), x, y, "cross_entropy")


def test_a_fused_norm_of_little_weight_is_refused_where_float64_is_out_of_reach():
    with pytest.raises(InputError, match="third derivatives .* are wrong"):
        gfm.Problem(
            Narrow(lambda z: torch.tanh(z) + 0.01 * F.layer_norm(z, (6,)), dtype=torch.float32),
            *data(dtype=torch.float32), "cross_entropy",
        )


def test_a_cast_inside_is_seen_and_hides_nothing():
    x, y = data(dtype=torch.float32)
    assert gfm.Problem(Narrow(dtype=torch.float32), x, y, "cross_entropy").examined == torch.float32
    with pytest.raises(InputError, match="first derivatives .* are wrong"):
        gfm.Problem(Narrow(half_hidden, dtype=torch.float32), x, y, "cross_entropy")
    for scale in (0.1, 1e-3):  # no false alarm
        small = Narrow(dtype=torch.float32)
        for q in small.parameters():
            q.data.mul_(scale)
        gfm.Problem(small, x, y, "cross_entropy")


class Cast(Net):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


def test_autocast_inside_is_refused():
    with pytest.raises(InputError, match="computes in bfloat16 in places"):
        gfm.Problem(Cast(dtype=torch.float32), *data(dtype=torch.float32), "cross_entropy")


def test_which_dtype_was_examined():
    x, y = data(dtype=torch.float32)
    for loss, dtype in (("cross_entropy", torch.float64), (nn.CrossEntropyLoss(weight=WEIGHTS), torch.float64),
                        (NARROW, torch.float32)):
        assert gfm.Problem(Net(dtype=torch.float32), x, y, loss).examined == dtype
    frozen = Net(dtype=torch.float32)
    frozen.first.requires_grad_(False)
    frozen.register_buffer("unused", torch.ones(3))
    assert gfm.Problem(frozen, x, y, "cross_entropy").examined == torch.float64
    assert frozen.first.weight.dtype == torch.float32


@pytest.mark.parametrize("hidden", [5, 300])
@pytest.mark.parametrize("between", [torch.relu, F.leaky_relu, F.hardtanh, F.gelu])
def test_kinks_raise_no_alarm_in_float32(between, hidden):
    for seed in range(4):
        torch.manual_seed(seed)
        gfm.Problem(Net(between, hidden, torch.float32), *data(dtype=torch.float32), NARROW)


def test_saturated_networks_raise_no_alarm():
    for seed in range(6):
        torch.manual_seed(seed)
        net = Net()
        for q in net.parameters():
            q.data.mul_(1e3)
        gfm.Problem(net, *data(), "cross_entropy")


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_large_weights_in_float32_raise_no_alarm(scale):
    """The loss in float32 is too rough for differences there; the examination in float64 decides."""
    layers = [layer for _ in range(10) for layer in (nn.Linear(32, 32), nn.Tanh())]
    net = nn.Sequential(nn.Linear(4, 32), *layers, nn.Linear(32, 3))
    for q in net.parameters():
        q.data.mul_(scale)
    gfm.Problem(net, *data(60, torch.float32), "cross_entropy")


def test_all_examples_are_looked_at_not_the_first_alone():
    x, y = data()
    x = x[x[:, 0].abs().argsort()]

    class Late(Net):
        def forward(self, x):
            out = super().forward(x)
            return torch.where(x[:, :1].abs() > x[:, 0].abs().max() - 1e-9, out.detach(), out)

    with pytest.raises(InputError, match="first derivatives .* are wrong"):
        gfm.Problem(Late(), x, y, "cross_entropy")
    x[5] = 0.0  # not among the few
    bare = nn.Sequential(nn.Linear(4, 3, bias=False)).double()
    with pytest.raises(InputError, match="of all examples is not finite"):
        gfm.Problem(bare, x, y, lambda o, t: o.square().sum(1).sqrt().mean())
    y[5] = 7
    with pytest.raises(InputError, match="all examples cannot be differentiated: Target 7"):
        gfm.Problem(Net(), x, y, nn.CrossEntropyLoss())


def test_a_loss_that_ignores_the_first_examples():
    x, y = data()
    y[:5] = 2
    problem = gfm.Problem(Net(), x, y, nn.CrossEntropyLoss(ignore_index=2))
    out = outputs_of(problem, x)
    assert holds(problem, lambda w: F.cross_entropy(out(w), y, ignore_index=2))


def of_list(net):
    kept = list(net.parameters())
    return lambda o, t: F.cross_entropy(o, t) + 0.1 * sum(q.square().sum() for q in kept)


def of_weight(net):
    return lambda o, t, kept=net.first.weight: F.cross_entropy(o, t) + 0.1 * kept.square().sum()


@pytest.mark.parametrize("loss_of", [of_list, of_weight])
def test_parameters_kept_as_objects_are_refused(loss_of):
    net = Net()
    with pytest.raises(InputError, match="use the parameter first.weight|use the parameter .* as an object"):
        gfm.Problem(net, *data(), loss_of(net))
    with pytest.raises(InputError, match="use the parameter first.weight as an object"):
        gfm.Problem(net, *data(), "cross_entropy", penalty=lambda _, kept=net.first.weight: kept.square().sum())


class Caching(Net):
    """Keeps a tensor that it computed from the weights."""

    kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = torch.softmax(self.first.weight, 0)
        return self.last(torch.tanh(F.linear(x, self.kept)))


def test_a_tensor_computed_from_earlier_weights_is_found():
    with pytest.raises(InputError, match="computed from the weights of an earlier call"):
        gfm.Problem(Caching(), *data(), "cross_entropy")


class Wobbling:
    """A loss that changes from call to call."""

    calls = 0

    def __call__(self, o, t):
        self.calls += 1
        return F.cross_entropy(o, t) * (1 + 1e-3 * self.calls)


class Averaging(nn.Module):
    """A loss that writes into a buffer; each evaluation starts from the same one."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, dtype=torch.float64))

    def forward(self, o, t):
        value = F.cross_entropy(o - self.mean, t)
        self.mean.mul_(0.9).add_(0.1 * o.detach().mean(0))
        return value


def test_losses_and_modules_that_are_no_fixed_function():
    noisy = (lambda o: F.dropout(o, 0.3)), (lambda o: o + 0 * torch.rand(()))
    for loss in (lambda o, t, change=change: F.cross_entropy(change(o), t) for change in noisy):
        with pytest.raises(InputError, match="draws random numbers"):
            gfm.Problem(Net(), *data(), loss)
    rarely = Net(lambda z: torch.tanh(z) * (torch.rand(()) > 1e-9))
    with pytest.raises(InputError, match="draws random numbers"):
        gfm.Problem(rarely, *data(), "cross_entropy")
    with pytest.raises(InputError, match="and then .* no fixed function"):
        gfm.Problem(Net(), *data(), Wobbling())
    problem = gfm.Problem(Net(), *data(), Averaging())
    w = away(problem)
    assert len({float(problem.loss(w)) for _ in range(3)}) == 1


def test_derivatives_inside_the_forward_pass():
    class Force(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()

        def forward(self, x):
            x = x.detach().requires_grad_()
            return -torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]

    x = data()[0]
    problem = gfm.Problem(Force(), x, torch.zeros_like(x))
    out = outputs_of(problem, x)
    assert holds(problem, lambda w: 0.5 * out(w).square().sum(1).mean())
