"""Runs: the same bytes by any number of workers, one error that stops all, and a budget that is kept."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Mapping, Set
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.checkpoints.journal import Finished
from lamina.errors import InputChanged, LaminaError, MemoryBudgetError, NonFiniteResult, UnmergeableTensor, WriteFailed
from lamina.execute.memory import MOST_WORKERS, peak_memory, predicted_memory, workers_that_fit
from lamina.execute.run import STRETCH_BLOCKS, Report, run
from lamina.expressions.nodes import Cast, Expr, Merge, Read
from lamina.plans.plan import Input, Job, Plan, SideFile
from lamina.tensor_spec import BF16, BLOCK_ELEMENTS, DTYPES, F16, F32, DType, TensorSpec

PLENTY = 2_000_000_000
I64 = DTYPES["I64"]


class Model:
    """A source whose tensors lie in memory. `before_reading` is called with each tensor's name."""

    def __init__(
        self, before_reading: Callable[[str], None] = lambda _name: None, **tensors: NDArray[np.generic]
    ) -> None:
        self.tensors, self.before_reading = tensors, before_reading

    def read_into(self, name: str, first_byte: int, buffer: memoryview, /) -> None:
        self.before_reading(name)
        buffer[:] = self.tensors[name].reshape(-1).view(np.uint8)[first_byte : first_byte + len(buffer)]


class Memory:
    """A sink that keeps every byte, and how often it was written."""

    def __init__(self, plan: Plan) -> None:
        self.content = {name: bytearray(spec.nbytes) for name, spec in plan.specs.items()}
        self.times = {name: np.zeros(spec.nbytes, np.uint8) for name, spec in plan.specs.items()}
        self.finished: dict[str, Finished] = {}

    def done(self) -> Set[str]:
        return frozenset()

    def put(self, name: str, first_byte: int, block: memoryview, /) -> None:
        end = first_byte + len(block)
        self.content[name][first_byte:end] = block
        self.times[name][first_byte:end] += 1

    def finish(self, made: Finished) -> None:
        assert made.name not in self.finished
        self.finished[made.name] = made


def read(model: str, name: str, shape: tuple[int, ...], dtype: DType = F32) -> Read:
    return Read(model, name, TensorSpec(shape, dtype))


def mean(name: str, shape: tuple[int, ...], stored: DType = F32) -> Merge:
    """Half of each of the models a and b."""
    return Merge(
        "linear", (read("a", name, shape), read("b", name, shape)), (0.5, 0.5), None, TensorSpec(shape, stored)
    )


def plan_of(files: tuple[SideFile, ...] = (), **jobs: Expr) -> Plan:
    models = (Input("a", ""), Input("b", ""))
    return Plan("r.yml", "linear", tuple(Job(name, expr, None) for name, expr in jobs.items()), files, models)


def carried_out(
    plan: Plan, sources: Mapping[str, Model], workers: int | None = 2, memory: int = PLENTY
) -> tuple[Memory, Report]:
    sink = Memory(plan)
    return sink, run(plan, sources, sink, workers=workers, memory=memory)


# What comes out


def test_every_tensor_is_put_whole() -> None:
    plan = plan_of(
        w=mean("w", (2, 2)), copied=read("a", "w", (2, 2)), narrow=Cast(read("b", "w", (2, 2)), TensorSpec((2, 2), F16))
    )
    sources = {"a": Model(w=np.full((2, 2), 1, np.float32)), "b": Model(w=np.full((2, 2), 4, np.float32))}
    sink, report = carried_out(plan, sources)
    assert np.frombuffer(sink.content["w"], np.float32).tolist() == [2.5] * 4
    assert np.frombuffer(sink.content["copied"], np.float32).tolist() == [1] * 4
    assert np.frombuffer(sink.content["narrow"], np.float16).tolist() == [4] * 4
    assert report.non_finite == set()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,)], ids=str)
def test_scalars_and_empty_tensors_are_tensors(shape: tuple[int, ...]) -> None:
    values = np.full(shape, 3, np.float32)
    sink, _ = carried_out(plan_of(w=mean("w", shape)), {"a": Model(w=values), "b": Model(w=values)})
    assert bytes(sink.content["w"]) == values.tobytes()


def test_a_plan_without_tensors_is_done_at_once() -> None:
    assert carried_out(plan_of(), {})[1].non_finite == set()


def test_a_tensor_of_many_blocks_is_put_once_byte_for_byte() -> None:
    """Several stretches of blocks, the last block a short one."""
    count = BLOCK_ELEMENTS * (STRETCH_BLOCKS + 1) + 5
    values = np.arange(count, dtype=np.uint8)
    sink, _ = carried_out(plan_of(w=read("a", "w", (count,), DTYPES["U8"])), {"a": Model(w=values)}, workers=3)
    assert bytes(sink.content["w"]) == values.tobytes()
    assert (sink.times["w"] == 1).all()


@pytest.mark.parametrize(("name", "shape"), [("F4", (700_000, 3)), ("F6_E2M3", (300_000, 10))], ids=str)
def test_packed_elements_are_copied_to_the_last_bit(name: str, shape: tuple[int, ...]) -> None:
    """Their rows end within a byte."""
    spec = TensorSpec(shape, DTYPES[name])
    values = np.random.default_rng(0).integers(0, 256, spec.nbytes, dtype=np.uint8)
    sink, _ = carried_out(plan_of(w=Read("a", "w", spec)), {"a": Model(w=values)})
    assert bytes(sink.content["w"]) == values.tobytes()
    assert (sink.times["w"] == 1).all()


def large_world() -> tuple[Plan, dict[str, Model]]:
    """Three tensors of several blocks, one of few elements."""
    rng = np.random.default_rng(0)
    shapes = {"tall": (300, 7000), "wide": (2, BLOCK_ELEMENTS + 100), "flat": (BLOCK_ELEMENTS + 1,), "small": (3,)}
    sources = {
        model: Model(**{name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()})
        for model in "ab"
    }
    return plan_of(**{name: mean(name, shape, BF16) for name, shape in shapes.items()}), sources


PLAN, SOURCES = large_world()
EXPECTED = carried_out(PLAN, SOURCES, workers=1)[0].content


@pytest.mark.parametrize("workers", [2, 3, 7, None])
def test_bytes_do_not_depend_on_the_number_of_workers(workers: int | None) -> None:
    sink, _ = carried_out(PLAN, SOURCES, workers=workers)
    assert sink.content == EXPECTED
    assert all((times == 1).all() for times in sink.times.values())


def test_bytes_do_not_depend_on_who_is_slow() -> None:
    rng = np.random.default_rng(1)
    slow = {
        model: Model(lambda _name: time.sleep(rng.uniform(0, 0.01)), **own.tensors) for model, own in SOURCES.items()
    }
    assert carried_out(PLAN, slow, workers=4)[0].content == EXPECTED


def test_bytes_do_not_depend_on_the_memory() -> None:
    least = predicted_memory(PLAN, 1, PLENTY)
    assert carried_out(PLAN, SOURCES, workers=8, memory=least)[0].content == EXPECTED


def test_a_plan_that_was_sent_to_another_machine_makes_the_same_bytes() -> None:
    assert carried_out(pickle.loads(pickle.dumps(PLAN)), SOURCES)[0].content == EXPECTED


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 5))
@settings(max_examples=20)
def test_any_set_of_tensors_is_put_once(lengths: list[int], workers: int) -> None:
    tensors = {f"t{number}": np.arange(length, dtype=np.float32) for number, length in enumerate(lengths)}
    plan = plan_of(**{name: read("a", name, tensor.shape) for name, tensor in tensors.items()})
    sink, _ = carried_out(plan, {"a": Model(**tensors)}, workers=workers)
    assert {name: bytes(content) for name, content in sink.content.items()} == {
        name: tensor.tobytes() for name, tensor in tensors.items()
    }


def test_progress_counts_every_byte() -> None:
    seen: dict[str, int] = {}
    lock = threading.Lock()

    def progress(name: str, nbytes: int) -> None:
        with lock:
            seen[name] = seen.get(name, 0) + nbytes

    run(PLAN, SOURCES, Memory(PLAN), workers=3, memory=PLENTY, progress=progress)
    assert seen == {name: spec.nbytes for name, spec in PLAN.specs.items()}


# NaN, infinity, integers


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_an_input_is_carried_and_reported(value: float) -> None:
    a, b = np.ones(3, np.float32), np.ones(3, np.float32)
    a[1] = value
    plan = plan_of(w=mean("w", (3,)), copied=read("a", "w", (3,)), whole=read("b", "w", (3,)))
    sink, report = carried_out(plan, {"a": Model(w=a), "b": Model(w=b)})
    assert report.non_finite == {"w", "copied"}
    assert np.isfinite(np.frombuffer(sink.content["w"], np.float32)).tolist() == [True, False, True]


def test_a_result_that_overflows_is_an_error_that_names_the_tensor() -> None:
    large = Model(w=np.full(3, 1e5, np.float32))
    with pytest.raises(NonFiniteResult, match=r"while making w: .*too large for float16"):
        carried_out(plan_of(w=mean("w", (3,), F16)), {"a": large, "b": large})


def test_integers_that_differ_are_an_error_that_names_the_tensor() -> None:
    expr = Merge("linear", (read("a", "w", (1,), I64), read("b", "w", (1,), I64)), (), None, TensorSpec((1,), I64))
    sources = {"a": Model(w=np.array([1])), "b": Model(w=np.array([2]))}
    with pytest.raises(UnmergeableTensor, match=r"while making steps: .*differs between a and b"):
        carried_out(plan_of(steps=expr), sources)


# Errors


def failing_on(name: str, error: BaseException) -> Callable[[str], None]:
    def fail(reading: str) -> None:
        if reading == name:
            raise error
        time.sleep(0.005)

    return fail


MANY = {f"t{number:03}": np.ones(4, np.float32) for number in range(400)}
MANY_PLAN = plan_of(**{name: read("a", name, (4,)) for name in MANY})


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_error_in_one_worker_names_its_tensor_and_stops_the_others(workers: int) -> None:
    sources = {"a": Model(failing_on("t003", InputChanged("the file is gone")), **MANY)}
    sink, before = Memory(MANY_PLAN), threading.active_count()
    with pytest.raises(InputChanged, match=r"^while making t003: the file is gone$"):
        run(MANY_PLAN, sources, sink, workers=workers, memory=PLENTY)
    assert threading.active_count() == before
    done = sum(bool(times.any()) for times in sink.times.values())
    assert done < 3 + 4 * workers, "the others went on"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), ZeroDivisionError("a fault of ours")], ids=repr)
def test_what_is_no_letter_reaches_the_caller_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        carried_out(MANY_PLAN, {"a": Model(failing_on("t003", error), **MANY)})
    assert caught.value is error


def test_an_error_of_the_sink_names_its_tensor() -> None:
    class Full(Memory):
        def put(self, _name: str, _first_byte: int, _block: memoryview, /) -> None:
            raise WriteFailed("no space left")

    plan = plan_of(w=read("a", "w", (4,)))
    with pytest.raises(WriteFailed, match="while making w: no space left"):
        run(plan, {"a": Model(w=np.ones(4, np.float32))}, Full(plan), workers=2, memory=PLENTY)


def test_one_error_of_many_is_raised_with_one_tensor_in_it() -> None:
    def fail(_name: str) -> None:
        raise InputChanged("gone")

    with pytest.raises(LaminaError) as caught:
        carried_out(MANY_PLAN, {"a": Model(fail, **MANY)}, workers=8)
    assert str(caught.value).count("while making") == 1


def test_a_run_that_failed_can_be_started_again() -> None:
    with pytest.raises(InputChanged):
        carried_out(MANY_PLAN, {"a": Model(failing_on("t399", InputChanged("gone")), **MANY)})
    sink, _ = carried_out(MANY_PLAN, {"a": Model(**MANY)})
    assert all((times == 1).all() for times in sink.times.values())


# Memory


def test_a_budget_that_not_even_one_worker_fits_is_a_letter_with_both_figures() -> None:
    needed = predicted_memory(PLAN, 1, PLENTY)
    with pytest.raises(MemoryBudgetError) as caught:
        carried_out(PLAN, SOURCES, memory=needed - 1)
    assert f"needs {needed / 1e6:.0f} MB with one worker" in str(caught.value)
    assert f"--memory allows {(needed - 1) / 1e6:.0f} MB" in str(caught.value)


def test_what_is_announced_as_needed_is_enough() -> None:
    assert workers_that_fit(PLAN, None, predicted_memory(PLAN, 1, PLENTY)) == 1


@given(st.integers(1, 64), st.integers(0, 10**10))
def test_what_is_predicted_stays_within_the_budget(workers: int, memory: int) -> None:
    try:
        found = workers_that_fit(PLAN, workers, memory)
    except MemoryBudgetError:
        assert memory < predicted_memory(PLAN, 1, PLENTY)
        return
    assert 1 <= found <= workers
    assert predicted_memory(PLAN, workers, memory) <= memory


def test_more_memory_never_means_fewer_workers() -> None:
    least = predicted_memory(PLAN, 1, PLENTY)
    counts = [workers_that_fit(PLAN, 32, least + more * 10_000_000) for more in range(100)]
    assert counts == sorted(counts)
    assert counts[-1] > 1


def test_workers_that_nobody_asked_for_are_few() -> None:
    assert 1 <= workers_that_fit(PLAN, None, 10**12) <= MOST_WORKERS


def test_side_files_count() -> None:
    with_file = plan_of((SideFile("tokenizer.json", bytes(1_000_000)),), w=mean("w", (3,)))
    assert predicted_memory(with_file, 1, PLENTY) - predicted_memory(plan_of(w=mean("w", (3,))), 1, PLENTY) == 1_000_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system's own figure is in no file here")
def test_the_peak_is_what_this_process_has_held() -> None:
    before = peak_memory()
    held = np.ones(20_000_000)
    assert peak_memory() >= before
    assert peak_memory() >= held.nbytes


# A plan as data


def test_a_plan_counts_what_it_reads_and_writes() -> None:
    plan = plan_of((SideFile("config.json", b"{}"),), w=mean("w", (2, 3), BF16), copied=read("a", "w", (2, 3)))
    assert plan.parameters == 12
    assert plan.bytes_read == 3 * 24  # a and b for the mean, a again for the copy
    assert plan.bytes_written == 12 + 24 + 2
    assert list(plan.specs) == ["w", "copied"]


def test_the_digest_is_that_of_the_result_and_not_of_names_or_notes() -> None:
    jobs = (Job("w", read("a", "w", (2,)), 0),)
    notes = (SideFile("README.md", b"today", about_the_merge=True),)
    first = Plan("r.yml", "linear", jobs, (SideFile("config.json", b"{}"),), (Input("a", "f00d"),))
    moved = Plan(
        "other.yml",
        "linear",
        (Job("w", read("elsewhere/a", "w", (2,)), 0),),
        (SideFile("config.json", b"{}"), *notes),
        (Input("elsewhere/a", "f00d"),),
    )
    assert first.digest == moved.digest == pickle.loads(pickle.dumps(first)).digest
    others = [
        Plan("r.yml", "linear", jobs, (SideFile("config.json", b"{ }"),), (Input("a", "f00d"),)),
        Plan("r.yml", "linear", jobs, (SideFile("config.json", b"{}"),), (Input("a", "cafe"),)),
        Plan(
            "r.yml",
            "linear",
            (Job("w", read("a", "v", (2,)), 0),),
            (SideFile("config.json", b"{}"),),
            (Input("a", "f00d"),),
        ),
        Plan("r.yml", "linear", jobs, (SideFile("config.json", b"{}"),), (Input("a", "f00d"),), seed=1),
    ]
    assert len({first.digest, *(plan.digest for plan in others)}) == 5


def test_a_plan_can_be_hashed_and_compared() -> None:
    assert {large_world()[0]: 1}[PLAN] == 1
