"""The derivatives of the loss at one weight vector, on a graph that is built once and kept.

A product on a kept graph costs about one to two gradients; rebuilding the graph for every product
would cost three to five. For feed-forward networks there is a faster method without a graph (``gfm.problem.sweeps``).
Several vectors are multiplied either one after the other or, if operations are so small that launching them
dominates the cost, by one batched network with a copy of the weights for every vector.

Third derivatives are exact, by a further backward pass. Central differences of batched Hessian-vector products at
w +- h u would hardly be cheaper. With 1 / 3 directions, a point's gradient, products and third derivatives cost (in
gradients, on one thread) 10.3 / 49 exact and 10.4 / 43 by differences in a CNN of 544,100 weights, 7.6 / 35 and
8.7 / 35 in a Transformer of 68,228. And h has to suit the network: with |h u| = eps^(1/3) |w| in float32 the
oscillation has an error of 1e-5 in a small CNN but of 1.5 % in a small Transformer, which needs a step 30 times shorter
for 1e-5. With exact derivatives the error is 1e-6.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gfm.autograd import ordinary, with_gradients
from gfm.linalg.symmetric import pairs
from gfm.problem.feed_forward import FeedForward
from gfm.problem.sweeps import Sweeps

if TYPE_CHECKING:
    from gfm.problem import Problem

__all__ = ["Derivatives", "Expansion", "SweptExpansion", "plus"]

#: Most bytes of a tensor when pairs of directions are swept together: with larger tensors, allocating memory takes
#: longer than launching operations for one pair after the other (measured: a factor of two on either side).
_TOGETHER = 192 * 2**10
#: Most bytes of such a tensor when vectors are batched; it limits memory for a full Hessian.
_AT_ONCE = 64 * 2**20


def plus(total: Tensor | None, part: Tensor, share: float) -> Tensor:
    """``total`` + ``share`` * ``part``, tensors of one shape, computed in place in ``total``; None stands for zero."""
    if total is None:
        return part if share == 1 else share * part
    return total.add_(part, alpha=share)


class Derivatives:
    """L near ``w`` (p,): ``loss`` (0-d), ``gradient`` (p,), Hessian products and third derivatives.

    Vectors are rows ``(k, p)``. Derivatives are computed by sweeps for a feed-forward network, otherwise on a kept
    graph. ``Problem.at`` creates an instance.
    """

    @with_gradients
    def __init__(self, problem: "Problem", w: Tensor, width: int = 1):
        w = ordinary(w)
        self.problem = problem
        self.width = width if problem.batched and width > 1 else 1
        self.whole = problem.batch_size >= problem.n
        self.sweeps: Sweeps | None = None
        self._narrower: Derivatives | None = None
        network = _as_it_was(problem)
        if network is not None:
            problem.costs.gradients += 1
            inputs, targets, _ = next(problem.pieces())
            self.w, decay = w.detach(), problem.objective.weight_decay
            self.sweeps = Sweeps(network, self.w, inputs.detach(), targets.detach(), problem.row_loss)
            self.loss, self.gradient = self.sweeps.value, self.sweeps.gradient
            if decay:
                self.loss, self.gradient = self.loss + 0.5 * decay * (self.w @ self.w), self.gradient + decay * self.w
        elif self.whole:
            problem.costs.gradients += 1
            inputs, targets, _ = next(problem.pieces())
            self._leaf, self.loss, self._slopes = self._graph(w, inputs, targets)
            self.w, self.gradient = self._leaf.detach()[0], self._slopes[0].detach()
        else:
            self.w = w.detach()
            self.loss, self.gradient = problem.value_and_gradient(w)

    def _graph(self, w: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Leaf (width, p), loss (0-d) and slopes (width, p) whose graph is kept."""
        problem = self.problem
        leaf = w.detach()[None] if self.width == 1 else w.detach().repeat(self.width, 1)
        leaf.requires_grad_()
        if self.width == 1:
            values = problem.piece_loss(leaf[0], inputs, targets)[None]
        else:
            values = torch.func.vmap(lambda v: problem.piece_loss(v, inputs, targets))(leaf)
        (slopes,) = torch.autograd.grad(values.sum(), leaf, create_graph=True)
        if not slopes.requires_grad:  # a loss that is linear in the weights: add a zero that has a graph
            slopes = slopes + 0.0 * leaf**3
        return leaf, values[0].detach(), slopes

    def graphs(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Graphs of the loss: the one that is kept, or a new one for each piece of the full batch.

        Yields:
            Leaf (width, p), slopes (width, p) and share in the loss of each piece.
        """
        if self.whole:
            yield self._leaf, self._slopes, 1.0
            return
        for inputs, targets, share in self.problem.pieces():
            leaf, _, slopes = self._graph(self.w, inputs, targets)
            yield leaf, slopes, share

    @with_gradients
    def hvp(self, V: Tensor) -> Tensor:
        """H V for rows V (k, p), without a gradient graph."""
        V = ordinary(V)
        self.problem.costs.hvps += V.shape[0]
        if self.sweeps is not None:
            at_once = max(1, _AT_ONCE // self.sweeps.largest)
            return torch.cat([SweptExpansion(self, rows).image for rows in V.split(at_once)])
        total: Tensor | None = None
        for leaf, slopes, share in self._suited(V.shape[0]).graphs():
            total = plus(total, _joined(_products(slopes, leaf, V, graph=False), len(V)), share)
        assert total is not None  # there is an example
        return total

    @with_gradients
    def expand(self, U: Tensor) -> "Expansion | SweptExpansion":
        """H U for rows U (k, p), ready for third derivatives."""
        if self.sweeps is None:
            return Expansion(self._suited(U.shape[0]), U)
        self.problem.costs.hvps += U.shape[0]
        return SweptExpansion(self, ordinary(U))

    def third(self, u: Tensor, v: Tensor) -> Tensor:
        """D^3 L[u, v] (p,)."""
        self.problem.costs.thirds += 1
        return self.expand(v[None]).against({0: u})[0]

    def _suited(self, k: int) -> "Derivatives":
        """Itself, or one with fewer copies if ``k`` vectors would leave at least half of the copies (and two) idle."""
        if 2 * k > self.width or self.width < 3 or k == 0:
            return self
        if self._narrower is None or self._narrower.width < k:
            self._narrower = Derivatives(self.problem, self.w, k)
        return self._narrower._suited(k)


def _as_it_was(problem: "Problem") -> FeedForward | None:
    """The problem's feed-forward network, if the module is unchanged and computes in its own dtype."""
    network = problem.feed_forward
    if network is None or torch.is_autocast_enabled(problem.device.type):
        return None
    return network if FeedForward.of(problem.module, problem.inputs) == network else None


def _products(slopes: Tensor, leaf: Tensor, V: Tensor, *, graph: bool) -> list[Tensor]:
    """Products with the rows V (k, p), as many at a time as there are copies; the last block is padded with zeros."""
    turns: list[Tensor] = []
    for rows in V.split(leaf.shape[0]):
        missing = leaf.shape[0] - rows.shape[0]
        if missing:
            rows = torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])
        turns += torch.autograd.grad(slopes, leaf, rows, retain_graph=True, create_graph=graph)
    return turns


def _joined(turns: list[Tensor], k: int) -> Tensor:
    """The products of all turns as (k, p), without a gradient graph."""
    return (turns[0].detach() if len(turns) == 1 else torch.cat([turn.detach() for turn in turns]))[:k]


class Expansion:
    """The products ``image`` = H U (k, p) on a kept graph, and third derivatives from it."""

    @with_gradients
    def __init__(self, point: Derivatives, U: Tensor):
        self.point, self.U = point, (U := ordinary(U))
        point.problem.costs.hvps += U.shape[0]
        self._graphs = []
        image: Tensor | None = None
        for leaf, slopes, share in point.graphs():
            turns = _products(slopes, leaf, U, graph=True)
            image = plus(image, _joined(turns, len(U)), share)
            self._graphs.append((leaf, turns, share))
        assert image is not None  # there is an example
        self.image = image

    @with_gradients
    def against(self, partners: dict[int, Tensor]) -> dict[int, Tensor]:
        """D^3 L[u_c, v_c] (p,) for each row number c and its partner v_c (p,), by one backward pass per block."""
        totals: dict[int, Tensor] = {}
        for leaf, turns, share in self._graphs:
            width = leaf.shape[0]
            for block, image in enumerate(turns):
                here = {c - block * width: v for c, v in partners.items() if c // width == block}
                if not here:
                    continue
                if width == 1:
                    rows = ordinary(here[0])[None]
                else:
                    rows = torch.zeros_like(leaf)
                    for place, v in here.items():
                        rows[place] = v
                if image.requires_grad:
                    (out,) = torch.autograd.grad(image, leaf, rows, retain_graph=True)
                else:  # second derivatives that do not depend on the weights
                    out = torch.zeros_like(leaf)
                for place in here:
                    c = place + block * width
                    totals[c] = plus(totals.get(c), out[place], share)
        return totals

    def third(self, chosen: list[int] | None = None) -> Tensor:
        """D^3 L[u_i, u_j] for i <= j among the chosen rows: (m, p), pairs in the half vector's order.

        In each round every chosen row is paired with the one that a cyclic shift gives, so that k // 2 + 1 rounds cover
        all k (k + 1) / 2 pairs.
        """
        chosen = list(range(self.U.shape[0])) if chosen is None else chosen
        k = len(chosen)
        first, second = pairs(k)
        self.point.problem.costs.thirds += len(first)
        if k == 1:
            return self.against({chosen[0]: self.U[chosen[0]]})[chosen[0]][None]
        result = self.U.new_empty(len(first), self.U.shape[1])
        place = {(i, j): a for a, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True))}
        for shift in range(k // 2 + 1):
            starts = range(k // 2) if 2 * shift == k else range(k)  # a shift by k / 2 gives each pair twice
            found = self.against({chosen[c]: self.U[chosen[(c + shift) % k]] for c in starts})
            for c in starts:
                other = (c + shift) % k
                result[place[min(c, other), max(c, other)]] = found[chosen[c]]
        return result


class SweptExpansion:
    """The products ``image`` = H U (k, p) of a feed-forward network, and third derivatives."""

    def __init__(self, point: Derivatives, U: Tensor):
        assert point.sweeps is not None
        next(point.problem.pieces())  # raises an error if the data were changed
        self.point, self._sweeps = point, point.sweeps
        self._swept = self._sweeps.along(U := U.detach())
        decay = point.problem.objective.weight_decay
        self.image = self._swept.image.add_(U, alpha=decay) if decay else self._swept.image

    @with_gradients
    def against(self, partners: dict[int, Tensor]) -> dict[int, Tensor]:
        """D^3 L[u_c, v_c] (p,) for each row number c and its partner v_c (p,)."""
        if not partners:
            return {}
        others = self._sweeps.along(ordinary(torch.stack(list(partners.values())).detach()))
        rows = self._swept.third(list(partners), others, list(range(len(partners))))
        return dict(zip(partners, rows, strict=True))

    @with_gradients
    def third(self, chosen: list[int] | None = None) -> Tensor:
        """D^3 L[u_i, u_j] for i <= j among the chosen rows: (m, p), pairs in the half vector's order."""
        chosen = list(range(len(self.image))) if chosen is None else chosen
        first, second = ([chosen[c] for c in numbers.tolist()] for numbers in pairs(len(chosen)))
        self.point.problem.costs.thirds += len(first)
        if len(first) * self._sweeps.largest <= _TOGETHER:
            return self._swept.third(first, self._swept, second)
        result = self.image.new_empty(len(first), self.image.shape[1])
        for row, i, j in zip(result, first, second, strict=True):
            row.copy_(self._swept.third([i], self._swept, [j])[0])
        return result
