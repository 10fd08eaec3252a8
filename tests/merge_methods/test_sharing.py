"""What merges have in common is made once, and not a bit of any of them is another for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.expressions.nodes import Expr, Read, merge
from lamina.expressions.shared import ENTRY_BYTES, Shared
from lamina.merge_methods import METHODS
from lamina.merge_methods.measures import Facts, Measure
from lamina.tensor_spec import F32

from .engine import Arrays, exact, parameters

# What a sweep may vary of a method, whatever it does to the measures.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "t": st.sampled_from([0.0, 0.2, 0.7]),
    "density": st.sampled_from([0.3, 0.6, 1.0]),
    "gamma": st.sampled_from([0.1, 0.3]),
    "epsilon": st.sampled_from([0.05, 0.2]),
    "lambda": st.sampled_from([0.0, 0.5, 1.0]),
    "rescale": st.sampled_from(["false", "l1", "inverse"]),
    "normalize": st.booleans(),
    "select_topk": st.sampled_from([0.1, 0.5, 1.0]),
    "nuslerp_flatten": st.booleans(),
    "nuslerp_row_wise": st.booleans(),
    "filter_wise": st.booleans(),
    "max_iter": st.sampled_from([1, 10]),
    "r": st.sampled_from([0.1, 0.4]),
    "alpha": st.sampled_from([0.2, 0.5]),
}
WEIGHTS = st.sampled_from([[0.2, 0.7, 0.5], [0.9, 0.7, 0.5], [0.0, 0.7, 0.5]])


@st.composite
def sweeps(draw: Any, name: str) -> list[dict[str, Any]]:
    """Parameters of several points, most of which have something in common."""
    method = METHODS[name]
    varied = [each for each in method.parameters if each in VALUES]
    points = []
    for _ in range(draw(st.integers(2, 5))):
        point = {each: draw(VALUES[each]) for each in varied}
        if name == "nearswap":
            point["t"] = draw(st.sampled_from([0.01, 0.3]))
        if "weight" in method.parameters:
            point["weight"] = draw(WEIGHTS)[: method.inputs[1]]
        points.append(point)
    return points


class World:
    """Three models and a base, from which each point's expression is made."""

    def __init__(self, seed: int = 0, shape: tuple[int, ...] = (6, 7)) -> None:
        self.arrays = Arrays()
        rng = np.random.default_rng(seed)
        base = exact(rng.normal(0, 1, shape), F32)
        models = [exact(base + rng.normal(0, 0.3, shape), F32) for _ in range(3)]
        self.base, *self.models = (self.arrays.add(each) for each in (base, *models))

    def expr(self, name: str, **point: Any) -> Expr:
        method = METHODS[name]
        inputs = self.models[: method.inputs[1]]
        base = self.base if method.base == "required" else None
        values = parameters(name, len(inputs), point)
        return merge(name, inputs, values, base=base, draw_keys=[11, 22, 33][: len(inputs)])

    def bits(self, expr: Expr, shared: Shared | None = None) -> bytes:
        """As it would lie in a file, with the measures that are shared."""
        return self.arrays.bits(expr, shared).tobytes()

    def elements_read(self, expr: Expr, shared: Shared | None) -> int:
        """How many elements of the first model making it reads."""
        whole, counted = self.arrays.read, [0]

        def read(tensor: Read, first_byte: int, buffer: memoryview) -> None:
            counted[0] += (len(buffer) // 4) * (tensor == self.models[0])
            whole(tensor, first_byte, buffer)

        self.arrays.read = read  # type: ignore[method-assign]
        try:
            self.arrays.bits(expr, shared)
        finally:
            self.arrays.read = whole  # type: ignore[method-assign]
        return counted[0]


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_bit_depends_on_what_is_shared(name: str, data: st.DataObject) -> None:
    world = World(data.draw(st.integers(0, 1000)), data.draw(st.sampled_from([(), (9,), (6, 7), (3, 1, 5)])))
    points = data.draw(sweeps(name))
    exprs = [expr for point in points if (expr := expression_of(world, name, point)) is not None]
    shared = Shared(exprs, data.draw(st.sampled_from([0, 3_000, 10_000, 10**9])))
    assert [made(world, expr, shared) for expr in exprs] == [world.bits(expr) for expr in exprs]


def expression_of(world: World, name: str, point: dict[str, Any]) -> Expr | None:
    """None where the formula has no value for the parameters."""
    try:
        return world.expr(name, **point)
    except ValueError:
        return None


def made(world: World, expr: Expr, shared: Shared) -> bytes:
    """A tensor as a sweep makes it: kept whole, or made with what is known of its measures."""
    kept = shared.tensor(expr)
    if kept is not None:
        return bytes(kept)
    content = bytearray(world.bits(expr, shared))
    shared.keep_tensor(expr, content)
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("slerp", [{"t": 0.2}, {"t": 0.7}]),
        ("multislerp", [{"weight": [0.2, 0.7, 0.5]}, {"weight": [0.9, 0.7, 0.5]}]),
        ("karcher", [{"max_iter": 1}, {"max_iter": 5}]),
        ("ramplus_tl", [{"r": 0.1}, {"r": 0.3}]),
        (
            "breadcrumbs",
            [{"density": 0.5, "gamma": 0.1, "weight": each} for each in ([0.2, 0.7, 0.5], [1.0, 0.7, 0.5])],
        ),
    ],
)
def test_a_measure_is_taken_once_for_all_that_differ_elsewhere(name: str, points: Sequence[dict[str, Any]]) -> None:
    world = World()
    first, second = exprs = [world.expr(name, **point) for point in points]
    shared = Shared(exprs, 10**9)
    alone = world.elements_read(second, None)
    assert world.elements_read(first, shared) >= alone >= 2 * second.spec.count
    assert world.elements_read(second, shared) == second.spec.count  # the mix


def test_a_cut_off_depends_on_the_density_and_on_nothing_else() -> None:
    world = World()
    weights = [[0.2, 0.7, 0.5], [0.9, 0.7, 0.5]]
    exprs = [world.expr("ties", weight=w, density=d, rescale="l1") for d in (0.3, 0.6) for w in weights]
    shared = Shared(exprs, 10**9)
    counted = [world.elements_read(expr, shared) // expr.spec.count for expr in exprs]
    assert counted[1] == counted[3] == 1  # the mix
    assert min(counted[0], counted[2]) > 2


def test_the_products_of_the_same_models_serve_every_method() -> None:
    world = World()
    weight = [0.2, 0.7, 0.5]
    exprs = [world.expr("karcher"), world.expr("multislerp", weight=weight), world.expr("multislerp", weight=weight)]
    shared = Shared(exprs, 10**9)
    assert [world.elements_read(expr, shared) // expr.spec.count for expr in exprs] == [2, 1, 1]


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_every_measure_of_lamina_says_what_it_is_bound_to(method: Any) -> None:
    assert all(measure.bound is not None for measure in method.measures.values() if isinstance(measure, Measure))


def test_a_measure_that_does_not_say_what_it_is_bound_to_is_not_shared() -> None:
    def run(_facts: Facts, _values: Any) -> Any:
        yield from ()
        return 1.0

    assert Measure(run).bound is None


# Room


@pytest.fixture
def world() -> World:
    return World()


def tensors(world: World, count: int) -> list[Expr]:
    return [world.expr("linear", weight=[0.1 * (number + 1), 0.5, 0.5]) for number in range(count)]


def test_tensors_are_kept_as_far_as_there_is_room_the_first_first(world: World) -> None:
    a, b, c = tensors(world, 3)
    size = len(world.bits(a)) + ENTRY_BYTES
    shared = Shared([a, b, c, a, b, c], 2 * size)
    assert [shared.keep_tensor(expr, bytearray(world.bits(expr))) for expr in (a, b, c)] == [True, True, False]
    assert shared.tensor(b) == world.bits(b)
    assert shared.tensor(c) is None


def test_what_comes_once_is_not_kept(world: World) -> None:
    a, b = tensors(world, 2)
    shared = Shared([a, b, b], 10**9)
    assert not shared.keep_tensor(a, bytearray(4))
    assert shared.keep_tensor(b, bytearray(4))


def test_what_is_read_alone_is_not_kept(world: World) -> None:
    shared = Shared([world.base, world.base], 10**9)
    assert not shared.keep_tensor(world.base, bytearray(4))


def test_what_came_for_the_last_time_makes_way_and_no_earlier(world: World) -> None:
    a, b = tensors(world, 2)
    shared = Shared([a, a, a, b, b], len(world.bits(a)) + ENTRY_BYTES)
    assert shared.keep_tensor(a, bytearray(world.bits(a)))
    assert shared.tensor(a) is not None
    assert not shared.keep_tensor(b, bytearray(world.bits(b)))  # a will be needed once more
    assert shared.tensor(a) is not None
    assert shared.tensor(a) is not None  # and even then it stays, until there is need of room
    shared = Shared([a, a, b, b, b], len(world.bits(a)) + ENTRY_BYTES)
    shared.keep_tensor(a, bytearray(world.bits(a)))
    assert shared.tensor(a) is not None
    assert shared.keep_tensor(b, bytearray(world.bits(b)))
    assert shared.tensor(a) is None


def test_measures_come_before_tensors(world: World) -> None:
    points = [world.expr("slerp", t=t) for t in (0.2, 0.7)]
    a, *_ = tensors(world, 1)
    shared = Shared([*points, a, a], ENTRY_BYTES + 100)
    assert not shared.keep_tensor(a, bytearray(world.bits(a)))
    world.bits(points[0], shared)
    assert world.elements_read(points[1], shared) == points[1].spec.count


def test_threads_share_without_harm(world: World) -> None:
    exprs = [world.expr("ties", weight=[0.2, w, 0.5], density=0.5) for w in (0.1, 0.2, 0.3, 0.4)]
    wanted = [world.bits(expr) for expr in exprs]
    shared = Shared(exprs * 8, 20_000)
    found: list[list[bytes]] = []

    def work() -> None:
        found.append([made(world, expr, shared) for expr in exprs])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 8
