"""The plain convolutional network."""

from collections.abc import Sequence

from torch import nn

from gfm.errors import InputError
from gfm.nets.activations import activation_layer
from gfm.nets.registry import network
from gfm.nets.seeding import seeded

__all__ = ["cnn"]


@network(
    "cnn", title="CNN", takes="images", tiny={"channels": (2, 4), "hidden": 8}, book={"channels": (8, 16), "hidden": 32}
)
@seeded
def cnn(
    input_shape: tuple[int, int, int] = (3, 32, 32), outputs: int = 4, activation: str = "gelu", *,
    channels: Sequence[int] = (32, 64), hidden: int = 128,
) -> nn.Sequential:
    """3x3 convolutions, each with an activation and 2x2 average pooling, then two linear layers.

    Only the last layer has biases. The defaults are the central-flows paper's network, with 544,100 weights and
    torch's default initialisation.

    Args:
        input_shape: (channels, height, width) of the images.
        outputs: number of outputs; they are ``(n, outputs)``.
        activation: a name in ``gfm.nets.ACTIVATIONS``.
        channels: of each convolution.
        hidden: width of the first linear layer's output.

    Raises:
        InputError: The height or width cannot be halved once for each entry of ``channels``.
        UnknownNameError: The activation is unknown.
    """
    depth, height, width = input_shape
    shrink = 2 ** len(channels)
    if height % shrink or width % shrink:
        raise InputError(
            f"Images of {height}x{width} cannot be halved {len(channels)} times: "
            f"their sides must be multiples of {shrink}."
        )
    layers: list[nn.Module] = []
    for before, after in zip((depth, *channels[:-1]), channels, strict=True):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), activation_layer(activation), nn.AvgPool2d(2)]
    features = channels[-1] * (height // shrink) * (width // shrink)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(features, hidden, bias=False), activation_layer(activation),
        nn.Linear(hidden, outputs),
    )
