"""The command: its exit codes, and what it says where."""

from __future__ import annotations

from .conftest import Bench, command


def test_plan_shows_the_layers_and_writes_nothing(bench: Bench) -> None:
    recipe = bench.recipe("""
        stack:
          - {model: deep, layers: 0-31, at: 0}
          - {model: deep, layers: 0-31, at: 8}
        overlap: ramp
        dtype: bfloat16
        """)
    before = sorted(path.name for path in bench.world.iterdir())
    run = command("plan", recipe)
    assert run.code == 0, run.text
    assert "40 layers" in run.text
    assert "9-30" in run.text or "8-31" in run.text  # the blends alone, or with the two copies at their ends
    assert sorted(path.name for path in bench.world.iterdir()) == before


def test_errors_come_in_file_order_with_their_places_and_exit_code_2(bench: Bench) -> None:
    recipe = bench.recipe("""\
        models:
          - model: a
            parameters: {wieght: 0.5}
          - model: b
            parameters: {weight: 0.5}
        merge_method: linear
        dtpye: bfloat16
        """)
    out = bench.new_folder()
    for verb in (["plan", recipe], ["merge", recipe, out]):
        run = command(*verb)
        assert run.code == 2, run.text
        first, second = f"{recipe.name}:3:", f"{recipe.name}:7:"
        assert first in run.text, run.text
        assert second in run.text, run.text
        assert run.text.index(first) < run.text.index(second)
        assert "`weight`" in run.text
        assert "`dtype`" in run.text
    assert not out.exists()


def test_a_recipe_that_does_not_exist_exits_with_2(bench: Bench) -> None:
    run = command("merge", bench.outputs / "nowhere.yml", bench.new_folder())
    assert run.code == 2, run.text
    assert "nowhere.yml" in run.text


def test_methods_lists_every_method() -> None:
    run = command("methods")
    assert run.code == 0
    for name in ("linear", "passthrough", "task_arithmetic"):
        assert name in run.stdout


def test_methods_describes_one_method() -> None:
    run = command("methods", "task_arithmetic")
    assert run.code == 0
    for word in ("weight", "lambda", "normalize"):
        assert word in run.stdout
    assert "lambda_" not in run.stdout


def test_methods_answers_an_unknown_name_with_near_ones() -> None:
    run = command("methods", "lineer")
    assert run.code == 2
    assert "linear" in run.text


def test_sizes_without_a_meaning_are_refused(bench: Bench) -> None:
    recipe = bench.recipe("stack: [{model: a, layers: 0-3}]")
    for option in (["--memory", "lots"], ["--shard-size", "5 apples"], ["--workers", "0"], ["--workers", "-2"]):
        run = command("merge", recipe, bench.new_folder(), *option)
        assert run.code == 2, (option, run.text)


def test_memory_that_cannot_do_is_refused_with_the_figure_needed(bench: Bench) -> None:
    out = bench.new_folder()
    run = command("merge", bench.recipe("stack: [{model: a, layers: 0-3}]"), out, "--memory", "1MB")
    assert run.code == 2, run.text
    assert "MB" in run.text
    assert not out.exists()
