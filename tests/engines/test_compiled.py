"""A compiled training is the plain one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_difom.engines import Distiller
from monai_difom.engines.compiled import CompiledDistiller
from monai_difom.networks.nets import DifomUNet

from ..tiny import make_data, make_plan, make_trainer
from .test_distiller import pipeline

EAGER = {"backend": "eager"}


@pytest.mark.parametrize("latents", ["none", "side"])
def test_the_compiled_pass_is_one_graph_with_taps_and_heads_and_gives_what_the_plain_one_gives(
    latents: str,
) -> None:
    torch.manual_seed(0)
    distiller = Distiller(DifomUNet(2, 3, 1, (4, 6, 8), latents=latents, latent_channels=6), pipeline())
    with CompiledDistiller(distiller, {**EAGER, "fullgraph": True}) as compiled:
        for seed in range(2):  # the second call must not find the maps of the first
            image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
            expected, found = distiller(image), compiled(image)
            torch.testing.assert_close(found[0], expected[0])
            assert list(found[1]) == list(expected[1])
            for name in expected[1]:
                torch.testing.assert_close(found[1][name], expected[1][name])
        distiller.student(image)
        assert not compiled._maps  # who else runs the network leaves no map behind
    assert not any(module._forward_hooks for module in distiller.modules())


def test_a_compiled_training_ends_with_the_weights_of_the_plain_one_and_leaves_no_trace(
    tmp_path: Path,
) -> None:
    data = make_data(tmp_path)
    runs = []
    for options in (False, EAGER):
        trainer = make_trainer(data, make_plan((1, 1, 1)), compile=options)
        trainer.run()
        runs.append(trainer)
    plain, compiled = (run.distiller.state_dict() for run in runs)
    assert list(plain) == list(compiled)
    for key in plain:
        torch.testing.assert_close(plain[key], compiled[key], rtol=1e-4, atol=1e-6)
    assert not any(module._forward_hooks for module in runs[1].distiller.modules())


def test_what_is_no_way_to_compile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compile is 'max-autotune'; allowed are true, false, or arguments"):
        make_trainer(make_data(tmp_path), compile="max-autotune")
