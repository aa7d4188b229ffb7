"""What a fit reports besides the fitted model."""

from dataclasses import dataclass, field

__all__ = ["NOT_HELD_OUT", "FitReport"]

NOT_HELD_OUT = "none, but the training runs themselves"


@dataclass
class FitReport:
    """Cost and learning curve of one fit.

    Attributes:
        parameters: number of fitted parameters.
        seconds: wall time of the fit.
        epochs: passes over the training set (0 for closed forms).
        best_epoch: the epoch whose state is kept.
        train, validation: losses of each epoch.
        notes: what was chosen on validation data, by name. Without validation runs ``held_out`` says what decided in
            their place: the number of training runs that were held out, or :data:`NOT_HELD_OUT`.
        device: where a network was trained, if there is one.
    """

    parameters: int = 0
    seconds: float = 0.0
    epochs: int = 0
    best_epoch: int = 0
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)
    device: str = "cpu"
