"""Several processes do what one does, in order, and survive the death of any of them."""

import logging
import os
import sys
import threading
from itertools import chain, count, islice
from pathlib import Path

import pytest

from potnet.devices import import_torch
from potnet.errors import PotNetError
from potnet.parallel import AHEAD, in_order

sys.path.insert(0, str(Path(__file__).parent))
import working  # noqa: E402

needs_signals = pytest.mark.skipif(os.name != "posix", reason="kills by SIGKILL")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers) -> None:
    assert list(in_order(working.squared, range(50), workers)) == [k * k for k in range(50)]


def test_no_process_is_started_for_few_items() -> None:
    assert set(in_order(working.process_of, range(3), 2, few=3)) == {os.getpid()}
    assert os.getpid() not in set(in_order(working.process_of, range(4), 2, few=3))


def test_processes_prepare_before_the_function_is_loaded() -> None:
    found = in_order(working.Told(working.Needing()), range(3), 2, prepare=working.answer)
    assert list(found) == ["42"] * 3


def test_processes_load_torch_without_what_no_prediction_reads() -> None:
    names = ["torch", "torch._meta_registrations"]
    assert list(in_order(working.loaded, names, 2, prepare=import_torch)) == [True, False]


def test_few_items_are_drawn_ahead_of_an_endless_source() -> None:
    drawn = count()
    results = in_order(working.squared, drawn, 2)
    assert list(islice(results, 10)) == [k * k for k in range(10)]
    results.close()
    assert next(drawn) <= 10 + 2 * AHEAD
    assert not any("_receive" in thread.name for thread in threading.enumerate())


def test_what_a_worker_raises_is_raised_where_results_are_taken() -> None:
    results = in_order(working.refuse, range(50), 2)
    assert list(islice(results, 7)) == list(range(7))
    with pytest.raises(ValueError, match="seven"):
        list(results)


def test_what_a_worker_notes_is_said_here(caplog) -> None:
    with caplog.at_level(logging.INFO, logger="potnet"):
        assert list(in_order(working.say, range(3), 2)) == [0, 1, 2]
    assert sorted(caplog.messages) == ["number 0", "number 1", "number 2"]


def test_what_cannot_be_loaded_in_a_process_is_raised() -> None:
    with pytest.raises(RuntimeError, match="cannot be loaded"):
        list(in_order(working.Unloadable(), range(3), 2))


def test_a_process_that_cannot_start_is_told_and_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/bin/false")
    with pytest.raises(PotNetError, match="must start and load"):
        list(in_order(working.squared, range(3), 2))


def lost(item: list[int], why: str) -> list[str]:
    return [f"{item[0]} {why}"]


def joined(parts: list) -> list:
    return list(chain.from_iterable(parts))


@needs_signals
def test_an_item_over_which_processes_die_costs_only_itself(tmp_path) -> None:
    items = [list(range(k, k + 3)) for k in range(0, 30, 3)]
    found = in_order(
        working.Deadly(tmp_path, always={4}, once={10, 20}),
        items,
        2,
        divide=lambda item: [[number] for number in item],
        join=joined,
        lost=lost,
    )
    expected = [[k * k for k in item] for item in items]
    expected[1][1] = "4 ended with code -9, as when the memory is full"  # type: ignore[call-overload]
    assert list(found) == expected


@needs_signals
def test_one_death_is_forgiven_and_two_in_turn_are_told(tmp_path) -> None:
    items = [[k] for k in range(10)]
    found = list(in_order(working.Deadly(tmp_path, set(), {0, 5}), items, 2))
    assert found == [[k * k] for k in range(10)]
    with pytest.raises(PotNetError, match="got 2 in turn over the same item"):
        list(in_order(working.Deadly(tmp_path, {5}, set()), items, 2))
