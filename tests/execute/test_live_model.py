"""Where models are run: a device that is not there is a letter, before any other work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import lamina
from lamina.check.running import RunningModel
from lamina.cli.main import cli
from lamina.errors import DeviceError
from lamina.execute.live_model import device_here

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPE = str(EXAMPLES / "recipes" / "skills.yml")
VARIED = ("--vary", "models[0].parameters.weight=0.3,0.9")


def test_a_device_that_is_here_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cpu", "cuda", "cuda:1"):
        assert device_here(name) == name
    with pytest.raises(DeviceError, match=r"--device cuda:2: .*This machine has `cpu`, `cuda`, `cuda:0`, `cuda:1`"):
        device_here("cuda:2")
    with pytest.raises(DeviceError, match=r"Did you mean `cuda`\?"):
        device_here("cudaa")


def test_without_an_accelerator_the_cpu_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(backend, "is_available", lambda: False)
    for name in ("cuda", "mps", "gpu", "meta", ""):
        with pytest.raises(DeviceError) as told:
            device_here(name)
        assert str(told.value) == (
            f"--device {name}: torch {torch.__version__} finds no such device here. This machine has `cpu`. "
            "Leave --device out to run on the CPU."
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ("chat", "nowhere", "--prompt", "hi"),
        ("check", "nowhere"),
        ("upscale", "nowhere", "--scan"),
        ("sweep", RECIPE, *VARIED, "--metric", "loss"),
        ("sweep", RECIPE, *VARIED, "--metric", "arc_easy"),
        ("eval", "nowhere", "--tasks", "skills"),
    ],
)
def test_every_verb_tells_a_device_that_is_not_there_before_it_opens_a_model(arguments: tuple[str, ...]) -> None:
    if "eval" in arguments or "arc_easy" in arguments:
        pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")
    told = CliRunner().invoke(cli, [*arguments, "--device", "gpu"]).exception
    assert isinstance(told, DeviceError)
    assert str(told).startswith("--device gpu: torch ")


def test_a_live_model_is_refused_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError):
        lamina.load_model("nowhere.yml", device="gpu")


def test_a_model_that_is_checked_lies_on_the_device_that_was_asked_for() -> None:
    """`meta` is on every machine, though nothing can be computed on it."""
    assert RunningModel(EXAMPLES / "models" / "base", 4, 563_040, device="meta").model.device.type == "meta"
