"""One point in weight space with its derivatives on a graph that is built once and kept.

A product on a kept graph costs about one to two gradients; building the graph again for every product
would cost three to five. A chain of linear layers has a faster way of its own (``gfm.problem.sequential``).
Several vectors are multiplied either one after the other, or, where operations are so small that
launching them is the cost, by one network that carries a copy of the weights for every vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gfm.linalg.symmetric import pairs
from gfm.problem.sequential import ChainProducts

if TYPE_CHECKING:
    from gfm.problem import Problem

__all__ = ["Expansion", "Point"]


class Point:
    """L around ``w``: ``loss`` (0-d), ``gradient`` (p,), Hessian products and third derivatives.

    Vectors are rows ``(k, p)``. Made by ``Problem.at``.
    """

    def __init__(self, problem: Problem, w: Tensor, width: int = 1):
        self.problem = problem
        self.width = width if problem.batched and width > 1 else 1
        self.whole = problem.batch_size >= problem.n
        problem.costs.gradients += 1
        self._chain: ChainProducts | None = None
        self._narrower: Point | None = None
        if self.whole:
            self._w, value, self._slopes = self._graph(w, *next(problem.pieces())[:2])
            self.loss, self.gradient = value, self._slopes[0].detach()
            self._center = self._w.detach()[0]
        else:
            self._center = w.detach()
            self.loss, self.gradient = torch.zeros((), dtype=w.dtype, device=w.device), torch.zeros_like(w)
            for inputs, targets, share in problem.pieces():
                leaf = self._center.clone().requires_grad_()
                value = problem.piece_loss(leaf, inputs, targets)
                self.gradient += share * torch.autograd.grad(value, leaf)[0]
                self.loss = self.loss + share * value.detach()

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
        if not slopes.requires_grad:  # a loss that is linear in the weights: zero, but on a graph
            slopes = slopes + 0.0 * leaf**3
        return leaf, values[0].detach(), slopes

    def hvp(self, V: Tensor) -> Tensor:
        """H V for rows V (k, p), without graph."""
        self.problem.costs.hvps += V.shape[0]
        if self.problem.chain is not None:
            if self._chain is None:
                inputs, targets, _ = next(self.problem.pieces())
                self._chain = ChainProducts(self.problem.chain, self._center, inputs, targets, self.problem.row_loss)
            images = torch.empty_like(V, memory_format=torch.contiguous_format)
            for v, image in zip(V, images, strict=True):
                self._chain(v, out=image)
            return images
        if self.whole:
            suited = self._suited(V.shape[0])
            return _products(suited._slopes, suited._w, V, keep=True)
        total = torch.zeros_like(V)
        for inputs, targets, share in self.problem.pieces():
            leaf, _, slopes = self._graph(self._center, inputs, targets)
            total += share * _products(slopes, leaf, V, keep=True)
        return total

    def expand(self, U: Tensor) -> Expansion:
        """H U for rows U (k, p) on a kept graph, ready for third derivatives."""
        return Expansion(self._suited(U.shape[0]), U)

    def third(self, u: Tensor, v: Tensor) -> Tensor:
        """D^3 L[u, v] (p,)."""
        self.problem.costs.thirds += 1
        return Expansion(self, v[None]).against({0: u})[0]

    def _suited(self, k: int) -> Point:
        """This point, or one with fewer copies where ``k`` vectors would leave half of them, and two at least, idle."""
        if 2 * k > self.width or self.width < 3 or k == 0:
            return self
        if self._narrower is None or self._narrower.width < k:
            self._narrower = Point(self.problem, self._center, k)
        return self._narrower._suited(k)

    def _graphs(self):
        if self.whole:
            yield self._w, self._slopes, 1.0
            return
        for inputs, targets, share in self.problem.pieces():
            leaf, _, slopes = self._graph(self._center, inputs, targets)
            yield leaf, slopes, share


def _padded(rows: Tensor, leaf: Tensor) -> Tensor:
    """Rows filled up with zeros to the number of copies."""
    missing = leaf.shape[0] - rows.shape[0]
    return rows if missing == 0 else torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])


def _products(slopes: Tensor, leaf: Tensor, V: Tensor, keep: bool) -> Tensor:
    """Block product in turns of as many vectors as there are copies."""
    width = leaf.shape[0]
    turns = []
    for rows in V.split(width):
        (image,) = torch.autograd.grad(slopes, leaf, _padded(rows, leaf), retain_graph=keep)
        turns.append(image[: rows.shape[0]])
    return turns[0] if len(turns) == 1 else torch.cat(turns)


class Expansion:
    """Second-order images ``image`` = H U (k, p) on a kept graph, and third derivatives from it."""

    def __init__(self, point: Point, U: Tensor):
        self.point, self.U = point, U
        point.problem.costs.hvps += U.shape[0]
        self._graphs = []
        total: Tensor | None = None
        for leaf, slopes, share in point._graphs():
            turns = [
                torch.autograd.grad(slopes, leaf, _padded(rows, leaf), create_graph=True)[0]
                for rows in U.split(leaf.shape[0])
            ]
            image = turns[0].detach() if len(turns) == 1 else torch.cat([turn.detach() for turn in turns])
            image = image[: U.shape[0]]
            if total is None:
                total = image if share == 1 else share * image
            else:
                total.add_(image, alpha=share)
            self._graphs.append((leaf, turns, share))
        assert total is not None  # the data have at least one piece
        self.image = total

    def against(self, partners: dict[int, Tensor]) -> dict[int, Tensor]:
        """D^3 L[u_c, v_c] (p,) for each row number c and its partner v_c (p,), one backward pass a block."""
        totals: dict[int, Tensor] = {}
        for leaf, turns, share in self._graphs:
            width = leaf.shape[0]
            for block, image in enumerate(turns):
                here = {c - block * width: v for c, v in partners.items() if c // width == block}
                if not here:
                    continue
                if width == 1:
                    rows = here[0][None]
                else:
                    rows = torch.zeros_like(leaf)
                    for place, v in here.items():
                        rows[place] = v
                if image.requires_grad:
                    (out,) = torch.autograd.grad(image, leaf, rows, retain_graph=True)
                else:  # second derivatives that do not depend on the weights
                    out = torch.zeros_like(leaf)
                for place in here:
                    c, part = place + block * width, out[place] if share == 1 else share * out[place]
                    totals[c] = part if c not in totals else totals[c].add_(part)
        return totals

    def third(self, chosen: list[int] | None = None) -> Tensor:
        """D^3 L[u_i, u_j], i <= j in the chosen rows: (m, p), pairs in the half vector's order.

        Every round gives each chosen row one partner, a cyclic shift away: k // 2 + 1 rounds
        serve all k (k + 1) / 2 pairs.
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
            starts = range(k // 2) if 2 * shift == k else range(k)  # the half turn meets itself
            partners = {chosen[c]: self.U[chosen[(c + shift) % k]] for c in starts}
            found = self.against(partners)
            for c in starts:
                other = (c + shift) % k
                result[place[min(c, other), max(c, other)]] = found[chosen[c]]
        return result
