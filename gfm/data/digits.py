"""scikit-learn's handwritten digits: the data set that needs no download."""

import torch

from gfm.checks import checked
from gfm.data.dataset import Dataset
from gfm.data.selection import image_dataset

__all__ = ["digits"]


@checked
def digits(
    n: int = 500, classes: int = 4, *, targets: str = "one_hot", noise: float = 0.0, seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Images ``(n, 1, 8, 8)`` of the first ``classes`` digits, about 180 of each at most.

    The first ``n // classes`` images of each digit in file order are the training set, the remaining images of
    these digits the test set. All are normalised by the training images' mean and standard deviation, and the
    training set is shuffled by ``numpy.random.default_rng(seed)``.

    Args:
        n: total number of training images (rounded down to a multiple of ``classes``).
        classes: number of digits, the first ones.
        targets: "one_hot" ``(n, classes)`` for "mse"; "indices" ``(n,)`` for "cross_entropy";
            "signs" ``(n, 1)``, for two classes only; "parity" ``(n, 1)``, +1 for odd digits.
        noise: share of the training images whose labels are permuted among them. Digits are easy to learn: without
            noise the training loss falls to zero and the sharpness soon stops rising.
        seed: of the order and of the noise.
        dtype: of the images and of floating targets.

    Raises:
        InputError: n, classes, targets or noise are impossible.
    """
    from sklearn.datasets import load_digits  # slow to import, so only when used

    bunch = load_digits()
    archive = bunch.images[:, None], bunch.target
    return image_dataset(
        "digits", archive, None, n=n, classes=classes, targets=targets, seed=seed, dtype=dtype, noise=noise
    )
