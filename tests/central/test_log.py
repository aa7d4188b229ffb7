"""The records of a run."""

import numpy as np

from gfm.central.log import Log


def test_what_was_not_observed_is_nan_and_shorter_rows_are_padded():
    log = Log(3)
    log.write("flow", 1, {"loss": 0.5, "eigenvalues": np.array([2.0])})
    log.write("flow", 2, {"eigenvalues": np.array([3.0, 1.0])})
    log.write("flow", 3, {"loss": 0.25, "eigenvalues": np.array([4.0])})
    nan = np.nan
    np.testing.assert_array_equal(log.arrays("flow")["loss"], [nan, 0.5, nan, 0.25])
    np.testing.assert_array_equal(log.arrays("flow")["eigenvalues"], [[nan, nan], [2, nan], [3, 1], [4, nan]])
    assert log.arrays("another") == {}


def test_weights_are_kept_at_their_own_steps():
    log = Log(4)
    for t in (0, 2, 4):
        log.write("flow", t, {"weights": np.full(2, t, dtype=np.float32)})
    kept = log.arrays("flow")
    assert kept["weights_steps"].tolist() == [0, 2, 4] and kept["weights"].tolist() == [[0, 0], [2, 2], [4, 4]]
    assert kept["weights"].dtype == np.float32
