"""What a student states of itself, and what any network states by default."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_difom.networks.nets import DifomUNet, SamSegmenter, tapped
from monai_difom.networks.student import Student, as_student, load_network_state, network_state
from monai_difom.networks.taps import Tap


def test_a_network_that_states_nothing_has_no_taps_takes_any_size_and_is_exported_whole() -> None:
    network = nn.Conv2d(3, 1, 1)
    student = as_student(network)
    assert isinstance(student, Student)
    assert (dict(student.taps), student.divisor, student.training_only) == ({}, 1, ())
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(student(image), network(image))
    assert network_state(network).keys() == network.state_dict().keys()


def test_what_a_network_states_in_part_is_kept() -> None:
    network = nn.Conv2d(3, 1, 1)
    network.divisor = 8
    network.taps = {"deep": Tap("", 1, 1)}
    assert (as_student(network).divisor, list(as_student(network).taps)) == (8, ["deep"])


def test_tapped_networks_and_a_sam_are_students() -> None:
    assert isinstance(tapped(nn.Sequential(nn.Conv2d(3, 1, 1)), {"all": "0"}), Student)
    assert isinstance(SamSegmenter(model_type="small"), Student)


def test_what_was_kept_fills_a_student_whose_side_latents_stay_as_they_are() -> None:
    source, student = (DifomUNet(2, 3, 1, (4, 6), latents="side", latent_channels=3) for _ in range(2))
    before = {key: value.clone() for key, value in student.state_dict().items()}
    load_network_state(student, network_state(source), "model.pt", "It is another.")
    for key, value in student.state_dict().items():
        wanted = before if key.startswith("latents.") else source.state_dict()
        assert torch.equal(value, wanted[key]), key
    with pytest.raises(ValueError, match=r"model\.pt .*It is another\."):
        load_network_state(student, {"head.bias": torch.zeros(1)}, "model.pt", "It is another.")
