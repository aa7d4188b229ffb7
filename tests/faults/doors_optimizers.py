"""Valid calls and bad values: optimizers, their groups, filters and schedules."""

from bad_calls import Door
from bad_values import AMOUNT, COUNT, FLAG, MADE, NAME, RATE, but

import gfm


def optimizers() -> list[Door]:
    share = AMOUNT | {"1": 1, "1.5": 1.5}
    kinds = {
        "beta1": share,
        "beta2": share,
        "eps": AMOUNT,
        "momentum": share,
        "ns_steps": COUNT,
        "damping": AMOUNT,
        "bias_correction": FLAG,
    }
    doors = []
    for cls in gfm.optimizers.available().values():
        options = {field for field in kinds if field in cls.__dataclass_fields__}
        doors.append(
            Door(
                f"optimizers.{cls.__name__}",
                cls,
                {"lr": 0.1},
                {"lr": but(RATE, "a function", "a class"), **{field: kinds[field] for field in sorted(options)}},
            )
        )
    s = gfm.optimizers.schedules
    doors += [
        Door(
            "schedules.named",
            s.named,
            {"name": "constant", "lr": 0.1, "steps": 10},
            {"name": NAME, "lr": RATE, "steps": COUNT},
        ),
        Door(
            "Filter",
            gfm.optimizers.Filter,
            {},
            {"n": but(MADE, "a list of one"), "d": but(MADE, "a list of one"), "corrected": FLAG},
        ),
        Door("Group", gfm.optimizers.Group, {}, {"lr_factor": AMOUNT, "weight_decay": AMOUNT}),
        Door(
            "ParameterGroups",
            gfm.optimizers.ParameterGroups,
            {"rule": gfm.optimizers.GradientDescent(0.1), "groups": {"0": gfm.optimizers.Group()}},
            {
                "rule": MADE,
                "groups": but(MADE, "a mapping") | {"no group": {"0": 3}, "no name": {3: gfm.optimizers.Group()}},
            },
        ),
    ]
    for cls in (s.WarmUp, s.Cosine, s.Drop):
        doors.append(Door(f"schedules.{cls.__name__}", cls, {"peak": 0.1, "steps": 4}, {"peak": RATE, "steps": COUNT}))
    return doors
