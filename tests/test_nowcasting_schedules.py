"""The Nowcaster beside a learning rate that changes."""

import torch
from test_nowcasting import Run


def test_there_is_no_look_while_the_rate_is_zero():
    run = Run(seen=1, every=1)
    run.optimizer.param_groups[0]["lr"] = 0.0
    run.go(10)
    assert run.nowcaster.looks == 0
    run.optimizer.param_groups[0]["lr"] = 1e-2
    run.go(2)
    assert run.nowcaster.looks > 0


def test_a_scheduler_of_torch_goes_on_through_jumps_and_ends_the_looks_with_its_rate():
    """Rates are those of a run without jumps; when the schedule has come to zero, the nowcaster rests."""

    def rates(run):
        schedule = torch.optim.lr_scheduler.LambdaLR(run.optimizer, lambda step: max(1 - step / 12, 0.0))
        for _ in range(18):
            run.step()
            schedule.step()
            yield schedule.get_last_lr()[0], getattr(run.nowcaster, "jumps", 0)

    alone = [rate for rate, _ in rates(Run())]
    jumping = Run(rule=lambda window: window.weights[0, -1:], seen=2, every=1, gate=False)
    beside, jumps = zip(*rates(jumping), strict=True)
    assert list(beside) == alone and alone[-1] == 0
    assert jumps[5] > 0 and jumps[11] > jumps[5] and set(jumps[11:]) == {jumps[11]}
