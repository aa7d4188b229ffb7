"""The sorting task for sequence networks, after the demonstration of minGPT."""

import numpy as np
import torch

from gfm.checks import checked, whole
from gfm.data.dataset import IGNORE, Dataset

__all__ = ["sorting"]


@checked
def sorting(
    n: int = 1000, *, length: int = 8, vocabulary: int = 4, n_test: int | None = None, seed: int = 0
) -> Dataset:
    """Sequences of ``length`` random tokens followed by the same tokens sorted.

    Inputs are ``(n, 2 length - 1)`` int64: the unsorted tokens, then the sorted ones except the last.
    Targets are ``(n, 2 length - 1)`` int64: the next token at each position; the first ``length - 1`` positions,
    at which nothing is predicted, are masked with ``IGNORE`` (-1). Both "mse" (with one-hot rows) and
    "cross_entropy" of ``gfm.Problem`` accept these targets and count only unmasked positions. Training and
    ``n_test`` (by default n) test sequences are drawn independently from ``numpy.random.default_rng(seed)``. The
    defaults are the central-flows paper's setting, except for Mamba, where n=250.

    Raises:
        InputError: n, n_test, length or vocabulary is too small.
    """
    whole("length", length, 2)
    whole("vocabulary", vocabulary, 2)
    n_test = n if n_test is None else n_test
    tokens = np.random.default_rng(seed).integers(vocabulary, size=(n + n_test, length))
    both = np.concatenate((tokens, np.sort(tokens, axis=1)), axis=1).astype(np.int64)
    inputs, targets = both[:, :-1].copy(), both[:, 1:].copy()
    targets[:, : length - 1] = IGNORE
    x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
    return Dataset(
        name="sorting",
        inputs=x[:n],
        targets=y[:n],
        outputs=vocabulary,
        test_inputs=x[n:] if n_test else None,
        test_targets=y[n:] if n_test else None,
        vocabulary=vocabulary,
    )
