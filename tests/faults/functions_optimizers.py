"""Valid calls and bad values: optimizers, their groups, filters and schedules."""

from bad_calls import Function
from bad_values import AMOUNT, COUNT, FLAG, MADE, NAME, RATE, but

import gfm


def optimizers() -> list[Function]:
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
    functions = []
    for cls in gfm.optimizers.available().values():
        options = {field for field in kinds if field in cls.__dataclass_fields__}
        functions.append(
            Function(
                f"optimizers.{cls.__name__}",
                cls,
                {"lr": 0.1},
                {"lr": but(RATE, "a function", "a class"), **{field: kinds[field] for field in sorted(options)}},
            )
        )
    s = gfm.optimizers.schedules
    functions += [
        Function(
            "schedules.named",
            s.named,
            {"name": "constant", "lr": 0.1, "steps": 10},
            {"name": NAME, "lr": RATE, "steps": COUNT},
        ),
        Function(
            "Filter",
            gfm.optimizers.Filter,
            {},
            {"n": but(MADE, "a list of one"), "d": but(MADE, "a list of one"), "corrected": FLAG},
        ),
        Function("Group", gfm.optimizers.Group, {}, {"lr_factor": AMOUNT, "weight_decay": AMOUNT}),
        Function(
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
        bad = {"peak": RATE, "steps": COUNT}
        functions.append(Function(f"schedules.{cls.__name__}", cls, {"peak": 0.1, "steps": 4}, bad))
    return functions
