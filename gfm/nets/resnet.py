"""The residual network with group norms."""

from collections.abc import Sequence
from math import sqrt

from torch import Tensor, nn

from gfm.errors import InputError
from gfm.nets.activations import activation_layer
from gfm.nets.norms import GroupNorm
from gfm.nets.registry import network
from gfm.nets.seeding import seeded

__all__ = ["ResNet", "resnet"]


class ResNet(nn.Module):
    """A residual network for images; the width doubles and the sides halve at each further stage.

    The defaults are the central-flows paper's: 293,300 weights. As there, every residual branch is divided by the
    square root of the number of blocks, the second norm's gain and the head are initially zero, convolutions have He
    initialisation (fan out), and the shortcuts of a new stage are 3x3 convolutions with a norm. (The paper's
    parameter count determines the norms: none after the first convolution, one on each such shortcut. The activation
    after the first convolution is our choice.)

    Args:
        input_shape: (channels, height, width).
        outputs: number of outputs; they are ``(n, outputs)``.
        activation: a name in ``gfm.nets.ACTIVATIONS``.
        width: channels of the first stage.
        stages: number of blocks in each stage.
        groups: of the group norms.
        pool: side of the last average pooling.

    Raises:
        InputError: The sides cannot be halved and pooled in this way, or the groups do not divide the channels.
        UnknownNameError: The activation is unknown.
    """

    def __init__(
        self, input_shape: tuple[int, int, int] = (3, 32, 32), outputs: int = 4, activation: str = "gelu", *,
        width: int = 16, stages: Sequence[int] = (3, 3, 3), groups: int = 16, pool: int = 4,
    ):
        super().__init__()
        depth, height, across = input_shape
        shrink = 2 ** (len(stages) - 1) * pool
        if height % shrink or across % shrink:
            raise InputError(
                f"Images of {height}x{across} do not fit {len(stages)} stages with a last pooling of "
                f"{pool}: their sides must be multiples of {shrink}."
            )
        self.stem = _conv(depth, width)
        self.activation = activation_layer(activation)
        scale = 1 / sqrt(sum(stages))
        blocks: list[nn.Module] = []
        before = width
        for i, count in enumerate(stages):
            after = width * 2**i
            for j in range(count):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(_Block(before, after, stride, groups, activation, scale))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AvgPool2d(pool)
        self.head = nn.Linear(before * (height // shrink) * (across // shrink), outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) to outputs (n, outputs)."""
        x = self.blocks(self.activation(self.stem(x)))
        return self.head(self.pool(x).flatten(1))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, groups: int, activation: str, scale: float):
        super().__init__()
        self.conv1, self.norm1 = _conv(before, after, stride), GroupNorm(groups, after)
        self.conv2, self.norm2 = _conv(after, after), GroupNorm(groups, after)
        nn.init.zeros_(self.norm2.weight)
        self.activation = activation_layer(activation)
        self.scale = scale
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(_conv(before, after, stride), GroupNorm(groups, after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.activation(self.shortcut(x) + self.scale * y)


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


resnet = network(
    "resnet", title="ResNet", takes="images",
    tiny={"width": 2, "stages": (1, 1), "groups": 2, "pool": 4},
    book={"width": 4, "stages": (1, 1), "groups": 4, "pool": 2},
)(seeded(ResNet))
