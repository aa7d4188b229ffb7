"""Named settings, compared by one number each."""

import numpy as np
import pytest

from gfm.figures.bars import by_name


@pytest.mark.parametrize(("geometric", "expected"), [(False, 5.05), (True, 1.0)])
def test_the_mark_is_the_mean_that_is_asked_for(geometric, expected):
    drawn = by_name({"after 8 steps": {"hold": np.array([0.1, 10.0])}}, "error", log=True, geometric=geometric)
    dashes, mark = drawn.axes[0].lines
    assert dashes.get_xdata().tolist() == [0.1, 10.0]
    assert np.squeeze(mark.get_xdata()) == pytest.approx(expected)
