"""Rows along a path: their continuation, their rate, and what is forgotten."""

import numpy as np
import pytest
import torch

from gfm.linalg.row_history import MOST, RowHistory


def turning(time, p=7):  # two orthonormal rows that turn into two further directions
    angles = torch.tensor([0.1 * time, 0.05 * time**2 / 4], dtype=torch.float64)
    rows = torch.zeros(2, p, dtype=torch.float64)
    rows[0, 0], rows[0, 1] = torch.cos(angles[0]), torch.sin(angles[0])
    rows[1, 2], rows[1, 3] = torch.cos(angles[1]), torch.sin(angles[1])
    return rows


def path_of(times, rows=turning, first=2):
    path = RowHistory()
    for time in times:
        path.add(time, rows(time), first)
    return path


@pytest.mark.parametrize("times", [(0, 1, 2, 3), (0, 1, 2, 3, 4, 5), (0.0, 1.0, 2.0, 2.25, 2.5, 2.75)])
def test_a_smooth_path_is_continued(times):
    path = path_of(times)
    ahead = times[-1] + 0.5
    assert torch.allclose(path.at(ahead), turning(ahead), atol=2e-3)
    assert not torch.allclose(path.newest, turning(ahead), atol=2e-2)  # it has moved on


def test_four_points_of_a_cubic_give_it_exactly():
    path, line = RowHistory(), torch.arange(1.0, 4.0, dtype=torch.float64)
    for time in (0.0, 1.0, 3.0, 4.0):
        path.times, path.rows = [time, *path.times], [(time**3 * line)[None], *path.rows]
    assert torch.allclose(path.at(5.5), (5.5**3 * line)[None])
    assert torch.allclose(path.rate(), ((64.0 - 1.0) / 3 * line)[None])  # the mean of the last two changes


def test_the_rate_is_a_change_per_unit_of_time():
    times = (0.0, 0.25, 0.5)
    assert torch.allclose(path_of(times).rate(), (turning(0.5) - turning(0.0)) / 0.5, atol=1e-4)
    assert torch.allclose(path_of(times[:2]).rate(), (turning(0.25) - turning(0.0)) / 0.25, atol=1e-4)


def test_rows_are_turned_onto_those_before_and_the_last_ones_are_kept_apart():
    angle = torch.tensor(2.0, dtype=torch.float64)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    path = path_of([0, 1], lambda time: turning(time) if time == 0 else turn @ turning(time))
    assert torch.allclose(path.newest, turning(1.0), atol=1e-3)
    apart = path_of([0, 1], lambda time: turning(time) if time == 0 else turn @ turning(time), first=1)
    assert not torch.allclose(apart.newest, turning(1.0), atol=0.1)
    signs = path_of([0, 1], lambda time: turning(time) * (1 if time == 0 else -1), first=1)
    assert torch.allclose(signs.newest, turning(1.0))  # single rows keep their sign


def test_what_is_forgotten():
    path = path_of(range(10))
    assert len(path) == len(path.rows) == MOST and path.times[0] == 9 and path.next == 10
    path.forget(7)
    assert path.times[0] == 7 and torch.allclose(path.newest, turning(7.0), atol=1e-2)
    path.add(6, turning(6.0), 2)  # the path is taken again from there
    assert path.times[:2] == [6, 5]
    path.add(7, torch.eye(7, dtype=torch.float64)[:3], 3)  # a new direction has no past
    assert path.times == [7]
    path.forget()
    assert len(path) == 0 and path.next == 0


def test_its_state_continues_it():
    path, copy = path_of(range(5)), RowHistory()
    copy.load_state_dict(path.state_dict())
    path.add(5, turning(5.0), 2)
    copy.add(5, turning(5.0), 2)
    assert copy.times == path.times and all(map(torch.equal, copy.rows, path.rows))
    assert np.isfinite(copy.at(6).numpy()).all()
