"""The list of CI's parts and its clock, with stand-ins for commands and time."""

import importlib.util
import sys

import pytest
from conftest import ROOT

PATH = ROOT / ".ci" / "parts.py"


@pytest.fixture(scope="module")
def ci():
    if not PATH.exists():
        pytest.skip("only in the project's own checkout")
    spec = importlib.util.spec_from_file_location("ci_parts", PATH)
    module = sys.modules["ci_parts"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Machine:
    """Runs nothing: each command takes the minutes that are given for it, and ends with the status given for it."""

    def __init__(self, minutes, status=None):
        self.time, self.ran, self._minutes, self._status = 0.0, [], minutes, status or {}

    def execute(self, command, timeout_s):
        needed = 60 * self._minutes.get(command, 0)
        self.ran.append(command)
        self.time += min(needed, timeout_s)
        return None if needed > timeout_s else self._status.get(command, 0)


def outcome(ci, parts, machine, limit=80):
    return ci.run(parts, ci.Clock(limit, lambda: machine.time), machine.execute)


def test_every_file_exists_and_every_third_is_reached_in_three_commits(ci):
    sweeps = set()
    for number in range(3):
        parts = ci.parts(number)
        for word in " ".join(part.command for part in parts).replace('"', " ").replace("--ignore=", "").split():
            if word.startswith("tests/"):
                assert (ROOT / word).exists(), word
        sweeps.add(parts[-1].command)
        assert [part.name for part in parts][:2] == ["lint", "test"]
        assert sum(part.minutes for part in parts) <= 40
    assert len(sweeps) == 3


def test_all_that_fits_runs_in_order_and_the_rest_is_named(ci, capsys):
    parts = [ci.Part("lint", "a", 1, required=True), ci.Part("test", "b", 5, required=True), ci.Part("c", "c", 30)]
    parts += [ci.Part("d", "d", 60), ci.Part("e", "e", 10)]
    machine = Machine({"a": 1, "b": 5, "c": 30, "e": 10})
    assert outcome(ci, parts, machine)
    assert machine.ran == ["a", "b", "c", "e"]
    assert "left out: d (3600 s do not fit into 2640 s): d" in capsys.readouterr().out


def test_usual_times_grow_with_the_tests_on_a_slow_machine(ci, capsys):
    parts = [ci.Part("test", "b", 5, required=True), ci.Part("c", "c", 20), ci.Part("d", "d", 15)]
    machine = Machine({"b": 20, "c": 80, "d": 60})
    assert outcome(ci, parts, machine)
    assert machine.ran == ["b", "d"]
    assert machine.time == 80 * 60
    assert "left out: c (4800 s do not fit into 3600 s): c" in capsys.readouterr().out


def test_a_part_that_takes_too_long_is_ended_and_only_a_required_one_fails(ci, capsys):
    parts = [ci.Part("test", "b", 5, required=True), ci.Part("c", "c", 20)]
    assert outcome(ci, parts, Machine({"b": 5, "c": 500}))
    assert "left out: c (ended after 4500 s): c" in capsys.readouterr().out
    assert not outcome(ci, parts, Machine({"b": 500}))
    assert not outcome(ci, [ci.Part("test", "b", 90, required=True)], Machine({}))


def test_failures_fail_but_what_cannot_be_installed_does_not(ci, capsys):
    parts = [ci.Part("c", "c", 1), ci.Part("d", "d", 1, needs="install"), ci.Part("e", "e", 1)]
    assert outcome(ci, parts, Machine({}, {"install": 1}))
    assert "left out: d (what it needs could not be installed): d" in capsys.readouterr().out
    machine = Machine({}, {"c": 2})
    assert not outcome(ci, parts, machine)
    assert machine.ran == ["c", "install", "d", "e"]
    assert "FAILED (2)" in capsys.readouterr().out


def test_a_command_is_ended_with_all_that_it_started(ci, tmp_path):
    assert ci.shell("exit 3", 10) == 3
    assert ci.shell(f"(sleep 2; touch {tmp_path}/late) & sleep 30", 1) is None
    assert ci.shell(f"sleep 1.5; test ! -e {tmp_path}/late", 10) == 0
