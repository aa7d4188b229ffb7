"""Tracked eigenpairs of the effective Hessian against the dense one."""

import pytest
import torch
from toys import quadratic, tiny_problem

from gfm.curvature import Tracker, dense_hessian


def effective(problem, w, P):
    H = dense_hessian(problem, w)
    root = P**0.5 if isinstance(P, float) else P.sqrt()
    return H / root / (root[:, None] if torch.is_tensor(root) else root)


@pytest.mark.parametrize("kind", ["number", "vector"])
def test_pairs_are_right_and_p_orthonormal(kind):
    problem = tiny_problem()
    P = 0.1 if kind == "number" else 0.05 + torch.rand(
        problem.p, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    tracker = Tracker(initial=3, above=1e9)
    found = tracker.refresh(problem.at(problem.w0, 3), P)
    expected = torch.linalg.eigvalsh(effective(problem, problem.w0, P)).flip(0)[:3]
    assert torch.allclose(found.values, expected, atol=1e-8)
    assert torch.allclose((found.U * P) @ found.U.T, torch.eye(3, dtype=torch.float64), atol=1e-10)
    H = dense_hessian(problem, problem.w0)
    error = found.U @ H - found.values[:, None] * found.U * P
    assert error.norm() < 1e-4


def test_every_eigenvalue_above_the_line_is_tracked_while_it_moves():
    """D1: the number grows and shrinks with the spectrum; a guard below the line is always kept."""
    problem = tiny_problem()
    tracker = Tracker(above=1.5, cap=30)
    counts = []
    for scale in [0.5, 0.9, 1.5, 3.0, 6.0, 10.0, 5.0, 2.0, 0.5, 0.5, 0.5]:
        P = 0.6 / scale
        before = problem.costs.hvps
        found = tracker.refresh(problem.at(problem.w0, tracker.width), P)
        assert found.products == problem.costs.hvps - before  # those of cold solves too
        true = torch.linalg.eigvalsh(effective(problem, problem.w0, P)).flip(0)
        above = int((true > 1.5).sum())
        assert torch.allclose(found.values[:above], true[:above], rtol=1e-6)
        assert len(found.values) > above and found.values[-1] < 1.5
        counts.append(tracker.width)
    assert max(counts) >= 4 and counts[-1] <= 2


def test_warm_refreshes_are_cheap_and_keep_signs():
    problem = tiny_problem()
    w, tracker, before = problem.w0, Tracker(initial=3, above=1e9), None
    for step in range(12):
        point = problem.at(w, 3)
        found = tracker.refresh(point, 1.0)
        if before is not None:
            assert ((found.U * before).sum(1) > 0).all()
        if step > 3:
            assert found.products <= 15 and found.residuals[:2].max() <= 1e-6
        before, w = found.U, w - 0.05 * point.gradient


def test_back_at_a_point_its_own_rows_are_the_start():
    problem = tiny_problem()
    tracker, V = Tracker(initial=3, above=1e9), torch.randn(3, problem.p, dtype=torch.float64)
    here = tracker.refresh(problem.at(problem.w0, 3), 1.0)
    rows = tracker.rows
    tracker.refresh(problem.at(problem.w0 + 0.1 * V[0], 3), 1.0)
    tracker.restart(rows, 0)
    again = tracker.refresh(problem.at(problem.w0, 3), 1.0)
    assert again.products == 3  # one block product shows that nothing is left to do
    assert torch.allclose(again.U, here.U, atol=1e-6)
    # Pairs that were found elsewhere stay, behind those that are returned to.
    tracker.restart(rows[:2], 0)
    assert tracker.width == 3 and torch.equal(tracker.rows[:2], rows[:2])
    # Pairs that were dropped since come back with those that are returned to.
    few = Tracker(initial=1, above=float(here.values[2]) * 0.9)
    few.refresh(problem.at(problem.w0, 3), 1.0)
    many = few.rows
    assert len(many) > 2
    few.past.rows, few._rows = [block[:1] for block in few.past.rows], many[:1]  # as after a refresh that drops them
    few.restart(many, 0)
    assert few.refresh(problem.at(problem.w0, 3), 1.0).products <= 2 * len(many)


def test_rows_are_expected_to_turn_on():
    problem = tiny_problem()
    tracker, w = Tracker(initial=3, above=1e9), problem.w0
    points = []
    for _ in range(12):
        points.append(problem.at(w, 3))
        w = w - 0.05 * points[-1].gradient
    assert tracker.ahead(0.5) is None  # nothing is known yet
    for time, point in enumerate(points[:-1]):
        tracker.refresh(point, 2.0, time=time)
    before, expected = tracker.rows, tracker.ahead(len(points) - 1)
    true = Tracker(initial=3, above=1e9, dense=True).refresh(points[-1], 2.0).U * 2.0**0.5
    wrong = [float((rows[0] - true[0] * torch.sign(rows[0] @ true[0])).norm()) for rows in (before, expected)]
    assert wrong[1] < 0.5 * wrong[0]  # a rate is worth having if it takes away at least half
    assert torch.allclose(tracker.ahead(len(points) - 2), before)  # at the time of the refresh they are as found


def test_a_coarser_tolerance_serves_one_refresh():
    problem = tiny_problem()
    products, worst = [], []
    for tolerance in (0.0, 1e-2):
        tracker = Tracker(initial=3, above=1e9)
        tracker.refresh(problem.at(problem.w0, 3), 1.0)
        step = 0.1 * torch.randn(problem.p, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        found = tracker.refresh(problem.at(problem.w0 + step, 3), 1.0, tolerance=tolerance)
        products.append(found.products)
        worst.append(float(found.residuals[:2].max()))  # the third is the guard
    assert products[1] < products[0]
    assert worst[0] <= 1e-6 < worst[1] <= 1e-2


@pytest.mark.parametrize(("above", "capped"), [(1.5, True), (1e9, False)])
def test_a_cap_that_binds_is_known(above, capped):
    problem, tracker = tiny_problem(), Tracker(above=above, cap=2)
    tracker.refresh(problem.at(problem.w0, 1), 0.01)
    assert tracker.capped == capped


def test_where_the_path_has_period_two_starts_come_from_two_refreshes_ago():
    problem = tiny_problem()
    away = torch.randn(problem.p, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = [problem.at(problem.w0, 3), problem.at(problem.w0 + 0.1 * away, 3)]
    tracker = Tracker(initial=3, above=1e9, lag=2)
    products = [tracker.refresh(points[i % 2], 1.0).products for i in range(6)]
    assert products[4:] == [3, 3]  # one block product shows that nothing is left to do


def test_the_guard_that_is_kept_spares_cold_solves():
    problem = tiny_problem()
    values = torch.linalg.eigvalsh(dense_hessian(problem, problem.w0)).flip(0)[:7]
    above = int((values[2:] / values[1:-1]).argmin()) + 2  # the widest gap: the guard is clearly below
    point, P = problem.at(problem.w0, above + 1), float(values[above - 1]) / 1.51
    tracker = Tracker(above=1.5)
    found = tracker.refresh(point, P)
    assert found.values[above - 1] > 1.5 and found.values[above] < 0.8 * 1.5
    assert tracker.width == above + 1
    assert tracker.refresh(point, P).products == above + 1


@pytest.mark.parametrize(("guards", "width"), [((0.75, 0.7), 2), ((0.95, 0.7), 3), ((0.95, 0.9), 3)], ids=str)
def test_a_second_guard_is_dropped_where_both_are_clearly_below_the_line(guards, width):
    problem = quadratic([2.0, *guards, 0.1, 0.05], [1.0] * 5)
    tracker = Tracker(above=1.0, dense=True)
    tracker.refresh(problem.at(problem.w0, 3), 0.999 * guards[0])  # the first of them is just above it
    assert tracker.width == 3
    found = tracker.refresh(problem.at(problem.w0, 3), 1.0)
    assert found.values.tolist() == pytest.approx([2.0, *guards])
    assert tracker.width == width


def test_a_pair_that_was_missed_is_found_by_the_regular_cold_solve():
    problem = tiny_problem()
    point = problem.at(problem.w0, 4)
    true = Tracker(initial=4, grow=False).refresh(point, 1.0)
    tracker = Tracker(initial=2, grow=False, check_every=3)
    # Eigenvectors, but not the first ones: no warm refresh leaves them.
    tracker.load_state_dict(tracker.state_dict() | {"rows": true.U[2:]})
    values = torch.stack([tracker.refresh(point, 1.0).values for _ in range(4)])
    assert torch.allclose(values, true.values[torch.tensor([[2, 3]] * 3 + [[0, 1]])], rtol=1e-6)


def test_dense_refreshes_are_exact_wherever_the_path_goes():
    problem = tiny_problem()
    tracker, away = Tracker(initial=2, grow=False, dense=True), torch.ones(problem.p, dtype=torch.float64)
    for share in (0.0, 0.1, 0.2):
        w = problem.w0 + share * away
        found = tracker.refresh(problem.at(w, 8), 1.0)
        assert found.products == problem.p
        expected = torch.linalg.eigvalsh(dense_hessian(problem, w)).flip(0)[:2]
        assert torch.allclose(found.values, expected, rtol=1e-10)


def test_large_blocks_keep_their_signs_through_cold_solves(monkeypatch):
    monkeypatch.setattr("gfm.linalg.deflation.LARGE", 10)
    problem = tiny_problem()
    point, tracker, before = problem.at(problem.w0, 2), Tracker(initial=2, grow=False, check_every=1), None
    for _ in range(6):  # each of them cold, from another random start
        found = tracker.refresh(point, 1.0)
        if before is not None:
            assert ((found.U * before).sum(1) > 0).all()
        before = found.U


def test_a_tracker_goes_on_from_its_state_as_if_it_had_not_stopped():
    problem = tiny_problem()
    point = problem.at(problem.w0, 3)
    trackers = [Tracker(initial=3, grow=False, check_every=3) for _ in range(2)]
    for _ in range(2):
        trackers[0].refresh(point, 1.0)
    trackers[1].load_state_dict(trackers[0].state_dict())
    for _ in range(3):  # the second of these is cold
        one, other = (tracker.refresh(point, 1.0) for tracker in trackers)
        assert one.products == other.products and torch.equal(one.U, other.U)


def test_a_cold_refresh_keeps_all_copies_of_an_equal_eigenvalue():
    """A flow holds several eigenvalues at the edge; a solve from nothing must not lose one of them."""
    h = [2.0, 2.0, 2.0, 1.7, 1.5, 1.35, *(0.5 * 0.8**i for i in range(394))]
    problem, P = quadratic(h, [1.0] * 400), 1.0
    tracker = Tracker(above=1.6, check_every=2)
    tracker.load_state_dict(tracker.state_dict() | {"rows": torch.eye(400, dtype=torch.float64)[:5], "refreshes": 1})
    for _ in range(4):  # warm and cold in turn
        found = tracker.refresh(problem.at(problem.w0, tracker.width), P)
        assert torch.allclose(found.values[:4], torch.tensor(h[:4], dtype=torch.float64), atol=1e-6)
