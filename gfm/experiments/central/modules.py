"""Which modules and losses a problem accepts, and whether it computes correctly with them.

Every case is tried. What is accepted is compared with the module itself, used as in a training loop: its weights are
set, the loss is computed in float64, and ``backward`` is called at most once. Second and third derivatives are finite
differences of that gradient, so that nothing depends on torch's higher derivatives.
"""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import vector_to_parameters

from gfm.errors import GfmError
from gfm.problem import Problem
from gfm.randomness import seeding

__all__ = ["COLUMNS", "Case", "Found", "examine", "module_claims", "rows"]

#: The headings of a table after that of the names.
COLUMNS = ("Verdict", "Gradient", "Hessian products", "Third derivatives", "Vectors", "Pieces", "Examined")
#: Largest relative error of a right value by the module's dtype, and how an error below it is shown.
_RIGHT = {torch.float64: (1e-8, "below 10⁻⁸"), torch.float32: (1e-4, "below 10⁻⁴")}
#: Weights of a central difference of sixth order, one to three steps ahead; those of steps back are their negatives.
_STENCIL = (45 / 60, -9 / 60, 1 / 60)


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Twelve examples: inputs (12, 4), and indices (12,) of three classes."""
    return torch.randn(12, 4, dtype=torch.float64).to(dtype), torch.randint(0, 3, (12,))


def _cross_entropy(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


@dataclass(frozen=True)
class Case:
    """A module and a loss as people bring them.

    Attributes:
        name: for the table.
        module: builds the module (float64, unless ``data`` are float32).
        data: draws inputs and targets.
        loss: from the module to the problem's argument ``loss``.
        by_hand: the same loss of module, inputs and targets, as a training loop computes it.
        options: further arguments of ``Problem``.
    """

    name: str
    module: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]] = rows
    loss: Callable[[nn.Module], Any] = lambda net: "cross_entropy"
    by_hand: Callable[[nn.Module, Tensor, Tensor], Tensor] = _cross_entropy
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What was found for a case; all differences are relative, and 0 if it was refused.

    Attributes:
        case: its name.
        errors: of the loss and of its first, second and third derivatives.
        together: products with three vectors at once against those with one at a time.
        pieces: loss and derivatives in pieces of five examples against those of the whole, if pieces are taken.
        single: whether the module computes in float32.
        words: for the table: how several vectors are taken, whether in pieces, and in which dtype it was examined.
        refusal: the text of the exception, if there was one.
        raw: whether that exception was not one of this package, or had more than one line.
    """

    case: str
    errors: tuple[float, ...] = ()
    together: float = 0.0
    pieces: float = 0.0
    single: bool = False
    words: tuple[str, str, str] = ("", "", "")
    refusal: str = ""
    raw: bool = False

    @property
    def right(self) -> bool:
        """Whether all that was computed is right."""
        return all(e <= self._bound[0] for e in (*self.errors, self.together, self.pieces))

    @property
    def row(self) -> list[str]:
        """The row of the table: the name, and what belongs under ``COLUMNS``."""
        if self.refusal:
            return [self.case, "**raw error**" if self.raw else "refused", "", "", "", *self.words]
        bound, word = self._bound
        shown = [word if e <= bound else f"**{e:.1g}**" for e in self.errors[1:]]
        return [self.case, "works" if self.right else "**wrong**", *shown, *self.words]

    @property
    def _bound(self) -> tuple[float, str]:
        return _RIGHT[torch.float32 if self.single else torch.float64]


def module_claims(found: Sequence[Found]) -> dict[str, float]:
    """The values by which the claims about modules are judged."""
    exact = [f for f in found if not f.refusal and not f.single]
    return {
        "right": max(max(f.errors) for f in exact),
        "single": max(max(f.errors) for f in found if f.single),
        "together": max(f.together for f in exact),
        "pieces": max(f.pieces for f in exact),
        "silent": sum(not f.right for f in found),
        "sentence": sum(f.raw for f in found),
    }


def examine(case: Case) -> Found:
    """Try a case, and compare what was computed with the module itself."""
    with seeding(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, (x, y) = case.module(), case.data()
        if x.dtype != torch.float32:
            module.double()
        try:
            problem = Problem(module, x, y, case.loss(module), **case.options)
        except Exception as failure:  # raw errors are among what is looked for
            return Found(case.name, refusal=str(failure), raw=not isinstance(failure, GfmError) or "\n" in str(failure))
        w, u, v = torch.randn(3, problem.p, dtype=torch.float64)
        w = (problem.w0 + 0.1 * w).to(problem.dtype)
        u, v = (u / u.norm()).to(w), (v / v.norm()).to(w)
        computed = _computed(problem, w, u, v)
        V = torch.stack([u, v, u - v], 1)
        one_by_one = torch.stack([problem.hvp(w, column) for column in V.T], 1)
        pieces, batches = 0.0, "given"
        if "batch_size" not in case.options:
            try:
                divided = Problem(module, x, y, case.loss(module), batch_size=5, **case.options)
                pieces, batches = max(map(_difference, _computed(divided, w, u, v), computed)), "agree"
            except GfmError:
                batches = "only whole"
        right = _by_hand(case, copy.deepcopy(problem.module).double(), x, y, w.double(), u.double(), v.double())
    return Found(
        case.name, tuple(map(_difference, computed, right)), _difference(problem.hvp(w, V), one_by_one), pieces,
        problem.dtype == torch.float32,
        ("at once" if problem.batched else "in turn", batches, str(problem.examined).removeprefix("torch.")),
    )


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [q for q in module.parameters() if q.requires_grad]


def _computed(problem: Problem, w: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    return problem.loss(w), problem.gradient(w), problem.hvp(w, u), problem.third(w, u, v)


def _by_hand(
    case: Case, module: nn.Module, x: Tensor, y: Tensor, w: Tensor, u: Tensor, v: Tensor
) -> tuple[Tensor, ...]:
    """Loss, gradient (from losses only), H u and D^3 L[u, v] (from gradients only) at ``w`` (p,)."""
    x = x.double() if x.is_floating_point() else x

    def loss(w: Tensor) -> Tensor:
        vector_to_parameters(w, _trainable(module))
        return case.by_hand(module, x, y)

    def gradient(w: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss(w), _trainable(module))])

    slope = [_along(lambda z: loss(z).detach(), w, axis, 1e-4) for axis in torch.eye(len(w)).to(w)]
    bend = _along(lambda z: _along(gradient, z, u, 5e-3), w, v, 5e-3)
    return loss(w).detach(), torch.stack(slope), _along(gradient, w, u, 1e-3), bend


def _along(function: Callable[[Tensor], Tensor], w: Tensor, direction: Tensor, step: float) -> Tensor:
    """The rate of change of a function at ``w`` along a direction, by differences."""
    rate = torch.zeros(())
    for k, weight in enumerate(_STENCIL, 1):
        away = k * step * direction
        rate = rate + weight / step * (function(w + away) - function(w - away))
    return rate


def _difference(found: Tensor, right: Tensor) -> float:
    return float((found.double() - right).norm() / right.norm())
