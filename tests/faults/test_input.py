"""Every bad call is refused with one sentence, at once and before anything is computed."""

from __future__ import annotations

import warnings

import pytest
from bad_calls import judge, table
from doors import doors


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return doors(tmp_path_factory.mktemp("places"))


@pytest.mark.no_cover
def test_good_calls_work(places):
    for door in places:
        door.call(**door.good)


@pytest.mark.no_cover
@pytest.mark.filterwarnings("ignore")
def test_bad_calls_are_refused(places, capsys):
    answers, wrong = {}, []
    for door in places:
        answers[door.name] = []
        for name, value in door.bad():
            answer = judge(door, name, value)
            answers[door.name].append(answer)
            if answer != "refused":
                wrong.append(f"{door.name}, {name}={value!r}: {answer}")
    with capsys.disabled():
        print(f"\n{table(answers)}")
    assert sum(map(len, answers.values())) > 2000
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("call", "answer"), [
    (lambda a: None, "accepted"), (lambda a: int(a), "raw"), (lambda a: [0] * 60_000_000, "large"),
])
def test_another_answer_is_noticed(call, answer):
    from bad_calls import Door

    door = Door("a door", call, {"a": 1}, {"a": "count"})
    with warnings.catch_warnings():
        assert judge(door, "a", "three").startswith(answer)
