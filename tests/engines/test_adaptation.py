"""Adapt a teacher with masks, then distil its layers and predictions without any mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from monai_difom.engines import Distiller, Phase, Plan, network_state
from monai_difom.handlers import CollapseMonitor
from monai_difom.losses import LogitDistillationLoss
from monai_difom.networks.lora import adapter_state, add_lora, base_digest
from monai_difom.networks.nets import DifomUNet
from monai_difom.networks.teachers import SegmentingTeacher
from monai_difom.targets import DistillationTerm, LogitTerm, TargetPipeline
from tests.tiny import make_data, make_teacher, make_trainer, tiny_sam_segmenter, validation_loader


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def plan(**weights: Any) -> Plan:
    return Plan([Phase("one", 2, weights)])


def terms(**changes: Any) -> list[DistillationTerm]:
    loss = LogitDistillationLoss("sigmoid", temperature=2.0)
    return [
        # a map from the teacher's layers to the student's, each with its own linear adapter
        DistillationTerm("layer1", tap="layer1", source="sam/layer2"),
        DistillationTerm("layer2", tap="layer2", source="sam/layer1"),
        LogitTerm(source="sam/logits", loss=loss, **changes),
    ]


class Unlabelled:
    """The training loader's images without their masks."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.sampler = loader, loader.sampler

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        return ({k: v for k, v in batch.items() if k != "label"} for batch in self.loader)


def test_a_student_with_adapters_trains_on_masks_and_its_base_stays_bit_for_bit(data: Path) -> None:
    student = add_lora(tiny_sam_segmenter(), rank=2)
    before, adapters = (
        base_digest(student),
        {k: v.clone() for k, v in student.state_dict().items() if "lora_B" in k},
    )
    trainer = make_trainer(data, plan(segmentation=1.0), student=student, terms=[], learning_rate=0.01)
    trainer.run()
    assert base_digest(student) == before
    assert all(not torch.equal(student.state_dict()[key], value) for key, value in adapters.items())
    # what is kept of the best epoch is what was trained, megabytes where the network has gigabytes
    assert network_state(student).keys() == adapter_state(student).keys()


def test_layers_and_predictions_are_distilled_without_masks(data: Path) -> None:
    teacher = SegmentingTeacher(tiny_sam_segmenter(seed=7), layers=[1, 2])
    changes: dict = {
        "teacher": teacher,
        "student": tiny_sam_segmenter(),
        "terms": terms(),
        "fuse": "concat",
        "name": "sam",
    }
    trainer = make_trainer(data, plan(layer1=1.0, layer2=1.0, logit=1.0), **changes)
    trainer.data_loader = Unlabelled(trainer.data_loader)
    monitor = CollapseMonitor(validation_loader(data), strict=True)
    monitor.attach(trainer)
    first: dict = {}
    trainer.add_event_handler(
        "ITERATION_COMPLETED",
        lambda e: first.setdefault("terms", {k: float(v) for k, v in e.state.output["terms"].items()}),
    )
    trainer.run()
    last = {k: float(v) for k, v in trainer.state.output["terms"].items()}
    assert set(last) == {"layer1", "layer2", "logit"}
    assert all(last[name] < first["terms"][name] for name in ("layer1", "layer2"))
    assert not any(result["collapsed"] for result in monitor.results.values())


def test_a_student_that_is_the_teacher_has_no_prediction_loss() -> None:
    network = tiny_sam_segmenter(out_channels=2)
    targets = TargetPipeline(
        {"sam": SegmentingTeacher(tiny_sam_segmenter(out_channels=2), multiple_of=8)},
        [LogitTerm(tap="logits", source="sam/logits")],
    )
    image = torch.rand(2, 3, 32, 32)
    targets.fit([image])
    distiller = Distiller(network, targets).eval()
    prepared = targets.teachers["sam"].prepare(image)
    _, mapped = distiller(prepared)
    found = targets(image, {"logit": mapped["logit"].shape[2:]})
    assert float(targets.terms["logit"].loss(mapped["logit"], found["logit"])) == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(mapped["logit"], found["logit"])


def test_predictions_keep_their_values_and_are_brought_to_the_students_grid() -> None:
    teacher = SegmentingTeacher(tiny_sam_segmenter())
    targets = TargetPipeline({"sam": teacher}, [LogitTerm(source="sam/logits")])
    image = torch.rand(1, 3, 32, 32)
    targets.fit([image])
    assert targets.sources == []
    torch.testing.assert_close(targets(image, {"logit": (16, 16)})["logit"], teacher(image)["logits"])
    assert targets(image, {"logit": (32, 32)})["logit"].shape == (1, 1, 32, 32)


def test_any_student_is_read_at_its_output() -> None:
    targets = TargetPipeline(
        {"sam": SegmentingTeacher(tiny_sam_segmenter())}, [LogitTerm(source="sam/logits")]
    )
    distiller = Distiller(DifomUNet(2, 3, 1, (4, 6, 8)), targets)
    logits, maps = distiller(torch.rand(2, 3, 32, 32))
    assert torch.equal(maps["logit"], logits)
    with pytest.raises(ValueError, match=r"the teacher gives 1 classes \(sam/logits\), the student 3"):
        Distiller(DifomUNet(2, 3, 3, (4, 6, 8)), targets)


def test_a_mask_loss_without_masks_is_refused_before_training(data: Path) -> None:
    trainer = make_trainer(data, plan(segmentation=1.0), terms=[])
    trainer.data_loader = Unlabelled(trainer.data_loader)
    with pytest.raises(
        ValueError, match="phase 'one' weighs the segmentation term, but the training images have no labels"
    ):
        trainer.run()


def test_a_raw_term_has_no_band_and_one_source() -> None:
    with pytest.raises(ValueError, match="takes a teacher's map as it is"):
        LogitTerm(source="fused")
    with pytest.raises(ValueError, match="takes a teacher's map as it is"):
        LogitTerm(source="a/logits", band="low")
    with pytest.raises(ValueError, match="source of term 'logit'"):
        TargetPipeline({"tiny": make_teacher()}, [LogitTerm(source="tiny/logits")])
