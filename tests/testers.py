"""Shared testers: a class of tests that every implementation of a contract passes.

A test module subclasses a tester with a name that starts with ``Test`` and fills in how to build the thing.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import monai.networks.nets
import pytest
import torch
from torch import nn

from monai_difom.networks.student import Student, as_student, network_state
from monai_difom.networks.taps import get_module, read_taps
from monai_difom.networks.teachers import Teacher
from monai_difom.utils import split_bands


class TeacherTester:
    """What holds for every teacher.

    Subclasses implement `save` and `load`, and set `other_size` and `other_maps`.
    """

    image_size = (64, 96)  # not square, so that a swap of height and width shows
    other_size: dict = {}  # arguments of `load` that change the input size
    other_maps: dict = {}  # arguments of `load` that change the maps; empty where a teacher has one map only

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write tiny random weights in the published layout; the caller has set the seed."""

    @abstractmethod
    def load(self, folder: Path, **changes: object) -> Teacher:
        """Load what `save` wrote with the real loading code."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        self.save(tmp_path)
        return tmp_path

    @pytest.fixture
    def teacher(self, folder: Path) -> Teacher:
        return self.load(folder)

    @pytest.fixture
    def image(self) -> torch.Tensor:
        return torch.rand(2, 3, *self.image_size, generator=torch.Generator().manual_seed(1))

    def test_maps_have_the_declared_channels_and_grid(self, teacher: Teacher, image: torch.Tensor) -> None:
        height, width = teacher.input_size(self.image_size)
        found = teacher(image)
        assert list(found) == list(teacher.maps)
        for name, spec in teacher.maps.items():
            grid = (height / spec.stride, width / spec.stride)
            assert (*found[name].shape[:2], *found[name].shape[2:]) == (2, spec.channels, *grid), name

    def test_no_gradient_reaches_a_teacher(self, teacher: Teacher, image: torch.Tensor) -> None:
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert not any(found.requires_grad for found in teacher(image.requires_grad_()).values())

    def test_a_teacher_stays_in_eval_mode_inside_a_training_module(self, teacher: Teacher) -> None:
        parent = nn.ModuleList([teacher, nn.Dropout()]).train()
        assert parent[1].training
        assert not any(module.training for module in teacher.modules())

    def test_a_teacher_is_not_in_the_checkpoint_that_still_loads_strictly(self, teacher: Teacher) -> None:
        parent = nn.ModuleDict({"teacher": teacher, "head": nn.Linear(2, 2)})
        before = [parameter.clone() for parameter in teacher.parameters()]
        state = parent.state_dict()
        assert sorted(state) == ["head.bias", "head.weight"]
        parent.load_state_dict(state, strict=True)
        assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))

    def test_the_same_image_gives_the_same_maps(self, teacher: Teacher, image: torch.Tensor) -> None:
        first, second = teacher(image), teacher(image)
        assert all(torch.equal(first[name], second[name]) for name in first)

    @pytest.mark.parametrize(("bottom", "right"), [(0, 1), (1, 0)])
    def test_a_bright_corner_changes_the_maps_most_in_that_corner(
        self, teacher: Teacher, bottom: int, right: int
    ) -> None:
        height, width = self.image_size
        grey = torch.full((1, 3, height, width), 0.4)
        bright = grey.clone()
        rows = slice(bottom * height * 3 // 4, bottom * height * 3 // 4 + height // 4)
        columns = slice(right * width * 3 // 4, right * width * 3 // 4 + width // 4)
        bright[..., rows, columns] = 1
        for name, found in teacher(bright).items():
            change = (found - teacher(grey)[name]).abs().mean(dim=(0, 1))
            halves = [
                change[part_y, part_x].mean()
                for part_y in (slice(change.shape[0] // 2), slice(change.shape[0] // 2, None))
                for part_x in (slice(change.shape[1] // 2), slice(change.shape[1] // 2, None))
            ]
            assert int(torch.stack(halves).argmax()) == 2 * bottom + right, name

    def test_an_image_in_0_to_255_is_refused(self, teacher: Teacher, image: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"takes RGB in \[0, 1\]; got values from .* to 25\d"):
            teacher(image * 255)

    def test_an_image_of_one_channel_is_refused(self, teacher: Teacher, image: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"takes a float RGB batch"):
            teacher(image[:, :1])

    def test_two_loads_have_the_same_signature(self, folder: Path) -> None:
        assert self.load(folder).signature == self.load(folder).signature

    def test_one_changed_weight_changes_the_signature(self, folder: Path, teacher: Teacher) -> None:
        changed = self.load(folder)
        list(changed.parameters())[-1].data.view(-1)[-1] += 1e-3
        assert changed.signature != teacher.signature

    def test_another_input_size_or_other_maps_change_the_signature(self, folder: Path) -> None:
        variants = [{}, self.other_size, *([self.other_maps] if self.other_maps else [])]
        assert len({self.load(folder, **variant).signature for variant in variants}) == len(variants)

    def test_licence_and_source_are_named(self, teacher: Teacher) -> None:
        assert teacher.licence
        assert teacher.source in teacher.describe()


class LossTester:
    """What holds for every loss that is called as ``loss(input, target)``.

    Subclasses implement `make`. Where the target is a mask and not a feature map, they also overwrite `pair`
    and `equal`.
    """

    shape: tuple[int, ...] = (3, 4, 8, 9)
    detaches = True  # the target is a teacher's: no gradient may reach it

    @abstractmethod
    def make(self, **changes: object) -> nn.Module:
        """Build the loss; ``changes`` are constructor arguments (``reduction``)."""

    def pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return input and target that differ; the caller has set the seed."""
        return torch.randn(self.shape), torch.randn(self.shape)

    def equal(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return input and target on which the loss is zero."""
        target = torch.randn(self.shape)
        return target.clone(), target

    @pytest.fixture(autouse=True)
    def _seed(self) -> None:
        torch.manual_seed(0)

    def test_the_loss_is_zero_where_input_and_target_agree(self) -> None:
        assert float(self.make()(*self.equal())) == pytest.approx(0, abs=1e-6)

    def test_the_loss_is_above_zero_where_they_differ(self) -> None:
        value = self.make()(*self.pair())
        assert value.ndim == 0
        assert value > 0.01

    def test_the_gradient_agrees_with_finite_differences(self) -> None:
        # losses compute in float32, which is too coarse for gradcheck: one direction, and steps to match
        loss = self.make(reduction="sum")
        student, target = self.pair()
        gradient = torch.autograd.grad(loss(student.requires_grad_(), target), student)[0]
        direction = gradient / gradient.norm()
        with torch.no_grad():
            ahead, behind = loss(student + 0.01 * direction, target), loss(student - 0.01 * direction, target)
        assert float(ahead - behind) / 0.02 == pytest.approx(float(gradient.norm()), rel=0.01)

    def test_reductions_agree_with_each_other(self) -> None:
        pair = self.pair()
        each = self.make(reduction="none")(*pair)
        assert each.shape[0] == self.shape[0]
        torch.testing.assert_close(self.make(reduction="mean")(*pair), each.mean())
        torch.testing.assert_close(self.make(reduction="sum")(*pair), each.sum())

    def test_an_unknown_reduction_is_refused(self) -> None:
        with pytest.raises(ValueError, match="median"):
            self.make(reduction="median")

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_gives_a_finite_float32_loss_and_a_gradient(self, dtype: torch.dtype) -> None:
        student, target = self.pair()
        half = student.to(dtype).requires_grad_()
        value = self.make()(half, target.to(dtype))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, self.make()(student, target), rtol=0.02, atol=0.01)
        value.backward()
        assert half.grad is not None
        assert bool(half.grad.isfinite().all())

    def test_the_input_receives_a_gradient_and_the_target_none(self) -> None:
        student, target = (value.requires_grad_() for value in self.pair())
        self.make()(student, target).backward()
        assert student.grad is not None
        assert student.grad.abs().sum() > 0
        if self.detaches:
            assert target.grad is None

    @pytest.mark.parametrize("part", [slice(1), slice(None, -1)])
    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_shapes_that_differ_are_refused(self, axis: int, part: slice) -> None:
        # one channel or one image would broadcast in silence
        student, target = self.pair()
        target = target.movedim(axis, 0)[part].movedim(0, axis)
        if target.shape == student.shape:
            pytest.skip("this axis has one entry only")
        with pytest.raises(ValueError, match=r"\(\d.*differ"):
            self.make()(student, target)

    def test_the_order_of_the_batch_does_not_matter(self) -> None:
        student, target = self.pair()
        order = torch.tensor([2, 0, 1])
        each = self.make(reduction="none")
        torch.testing.assert_close(each(student[order], target[order]), each(student, target)[order])


def squared(output: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """A number that depends on every output of a student, side outputs included."""
    outputs = [output] if isinstance(output, torch.Tensor) else output
    return torch.stack([each.pow(2).mean() for each in outputs]).sum()


class StudentTester:
    """What holds for every student.

    Subclasses implement `make` and set the attributes below.
    """

    spatial_dims = 2
    latents = "none"
    has_latents = True  # whether the student knows side and inline latents
    image_size: tuple[int, ...] = (32, 48)  # works, and is not square
    wrong_size: tuple[int, ...] | None = (36, 48)  # None: every size works
    nearest = "32x48 or 48x48"
    odd_size: tuple[int, ...] | None = None  # a size that no stride divides and that works all the same
    refusals: tuple[tuple[dict, str], ...] = (
        ({"spatial_dims": 1}, "allowed are 2 and 3"),
        ({"features": (8,)}, "at least two levels"),
        ({"latents": "outline"}, "allowed are 'none', 'side' and 'inline'"),
    )
    encoder = "encoder"  # what a phase names in `freeze`
    head = "head"  # the layer that gives the logits
    idle: tuple[str, ...] = ()  # prefixes of deployed parameters that an image of 3 channels does not use
    torchscript = "script"  # or "trace", where the encoder's library cannot be scripted
    exports = False  # to ONNX and OpenVINO, seconds each: one configuration per student is enough

    @abstractmethod
    def make(self, **changes: object) -> nn.Module:
        """Build a small student of 3 input and 2 output channels; ``changes`` are constructor arguments."""

    def build(self, **changes: object) -> nn.Module:
        """Build the student with random norm statistics: fresh ones would hide a norm that is left out."""
        torch.manual_seed(0)
        latents = {"latents": self.latents} if self.has_latents else {}
        student = self.make(**{"spatial_dims": self.spatial_dims, **latents, **changes})
        for name, buffer in student.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand_like(buffer) + (0.5 if name.endswith("var") else -0.5))
        return student

    @pytest.fixture
    def student(self) -> nn.Module:
        return self.build()

    @pytest.fixture
    def image(self) -> torch.Tensor:
        return torch.rand(2, 3, *self.image_size, generator=torch.Generator().manual_seed(1))

    def test_it_states_what_a_student_states(self, student: nn.Module) -> None:
        assert isinstance(student, Student)
        assert as_student(student) is student
        assert student.divisor == 1 or self.wrong_size is not None

    def test_the_name_is_not_one_that_monai_would_prefer(self, student: nn.Module) -> None:
        assert not hasattr(monai.networks.nets, type(student).__name__)

    @torch.no_grad()
    def test_in_eval_mode_there_is_one_tensor_of_logits_at_the_size_of_the_image(
        self, student: nn.Module, image: torch.Tensor
    ) -> None:
        logits = student.eval()(image)
        assert isinstance(logits, torch.Tensor)
        assert logits.shape == (2, 2, *self.image_size)
        assert logits.std() > 0
        get_module(student, self.head).bias.add_(10)  # logits, not probabilities: nothing squashes them
        torch.testing.assert_close(student(image), logits + 10)

    def test_a_gradient_reaches_every_parameter_that_is_deployed(
        self, student: nn.Module, image: torch.Tensor
    ) -> None:
        with torch.no_grad():  # gates that start at zero let nothing through
            for parameter in student.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        squared(student.train()(image)).backward()
        for name, parameter in student.named_parameters():
            if name.startswith((*student.training_only, *self.idle)):
                assert parameter.grad is None, name
            else:
                assert parameter.grad is not None, name
                # a bias in front of a norm has no effect, and so no gradient but rounding
                assert parameter.ndim == 1 or parameter.grad.abs().max() > 0, name

    def test_a_gradient_from_every_tap_reaches_the_first_layer(
        self, student: nn.Module, image: torch.Tensor
    ) -> None:
        _, maps = read_taps(student, image, student.taps)
        first = next(value for name, value in student.named_parameters() if not name.startswith(self.idle))
        for name, found in maps.items():
            (gradient,) = torch.autograd.grad(found.pow(2).sum(), first, retain_graph=True)
            assert gradient.abs().max() > 0, name

    @torch.no_grad()
    def test_declared_taps_are_what_comes_out(self, student: nn.Module, image: torch.Tensor) -> None:
        output, maps = read_taps(student.eval(), image, student.taps)
        assert torch.equal(output, student(image))
        assert "bottleneck" in maps
        assert ("L1" in maps, "L2" in maps) == ((self.latents != "none",) * 2)
        for name, tap in student.taps.items():
            grid = tuple(side / tap.stride for side in self.image_size)
            assert maps[name].shape == (2, tap.channels, *grid), name

    def test_a_size_that_cannot_work_is_refused_with_the_nearest(self, student: nn.Module) -> None:
        if self.wrong_size is None:
            pytest.skip("every size works")
        found = "x".join(map(str, self.wrong_size))
        with pytest.raises(ValueError, match=rf"cannot take a {found} image: .* Nearest: {self.nearest}\."):
            student(torch.rand(1, 3, *self.wrong_size))

    @torch.no_grad()
    def test_an_odd_size_that_works_gives_logits_of_that_size(self, student: nn.Module) -> None:
        if self.odd_size is None:
            pytest.skip("sides must be multiples of the deepest stride")
        assert student.eval()(torch.rand(1, 3, *self.odd_size)).shape == (1, 2, *self.odd_size)

    def test_what_makes_no_student_is_refused(self) -> None:
        for changes, message in self.refusals:
            with pytest.raises(ValueError, match=message):
                self.build(**changes)

    @torch.no_grad()
    def test_the_state_dict_brings_the_student_back(
        self, student: nn.Module, image: torch.Tensor, tmp_path: Path
    ) -> None:
        torch.save(student.state_dict(), tmp_path / "student.pt")
        other = self.build()
        for tensor in (*other.parameters(), *other.buffers()):
            tensor.zero_()
        other.load_state_dict(torch.load(tmp_path / "student.pt", weights_only=True), strict=True)
        assert torch.equal(other.eval()(image), student.eval()(image))

    @torch.no_grad()
    def test_torchscript_computes_the_same(self, student: nn.Module, image: torch.Tensor) -> None:
        student.eval()
        scripted = (
            torch.jit.script(student) if self.torchscript == "script" else torch.jit.trace(student, image)
        )
        torch.testing.assert_close(scripted(image), student(image), atol=1e-4, rtol=0)

    @torch.no_grad()
    def test_onnx_and_openvino_compute_the_same(
        self, student: nn.Module, image: torch.Tensor, tmp_path: Path
    ) -> None:
        if not self.exports:
            pytest.skip("another configuration of this student is exported")
        pytest.importorskip("onnxscript")
        expected = student.eval()(image)
        file = tmp_path / "student.onnx"
        torch.onnx.export(student, (image,), str(file), dynamo=True, verbose=False)
        for run in (run_onnx, run_openvino):
            torch.testing.assert_close(run(file, image), expected, atol=1e-4, rtol=0, msg=run.__name__)

    @torch.no_grad()
    def test_what_is_deployed_loads_into_the_student_without_side_latents(
        self, student: nn.Module, image: torch.Tensor
    ) -> None:
        state = network_state(student)
        assert len(state) == len(student.state_dict()) - (4 if self.latents == "side" else 0)
        plain = self.build(**({"latents": "none"} if self.latents == "side" else {}))
        for parameter in plain.parameters():
            parameter.zero_()
        plain.load_state_dict(state, strict=True)
        assert torch.equal(plain.eval()(image), student.eval()(image))

    @torch.no_grad()
    def test_latents_change_nothing_at_the_start(self, student: nn.Module, image: torch.Tensor) -> None:
        plain = self.build(**({"latents": "none"} if self.has_latents else {}))
        own = student.state_dict()
        plain.load_state_dict({key: own[key] for key in plain.state_dict()}, strict=True)
        assert torch.equal(plain.eval()(image), student.eval()(image))

    def test_a_frozen_encoder_does_not_move_in_any_tensor(
        self, student: nn.Module, image: torch.Tensor
    ) -> None:
        encoder = get_module(student.train(), self.encoder)
        encoder.requires_grad_(False).eval()
        before = {key: value.clone() for key, value in student.state_dict().items()}
        optimiser = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=0.1)
        for _ in range(2):
            optimiser.zero_grad()
            squared(student(image)).backward()
            optimiser.step()
        moved = {key for key, value in student.state_dict().items() if not torch.equal(value, before[key])}
        inside = {key for key in before if key.startswith(f"{self.encoder}.")}
        assert inside
        assert not inside & moved
        assert f"{self.head}.weight" in moved
        statistics = {key for key in before if key.endswith("running_mean")} - inside
        assert not statistics or statistics & moved  # those of the others do move


def run_onnx(file: Path, image: torch.Tensor) -> torch.Tensor:
    """Run an ONNX file in ONNX Runtime on one thread."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    return torch.from_numpy(found)


def run_openvino(file: Path, image: torch.Tensor) -> torch.Tensor:
    """Run an ONNX file in OpenVINO on one thread, in float32: on some processors its default is bfloat16."""
    openvino = pytest.importorskip("openvino")
    from monai_difom.apps.deployed.openers import openvino_core

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino_core().compile_model(openvino.convert_model(str(file)), "CPU", settings)
    return torch.from_numpy(model(image.numpy())[0])


def band_energy(
    maps: torch.Tensor, cutoff: float, transition: float = 0.1, shape: str = "smooth"
) -> dict[str, float]:
    """Return the share of the variance of maps ``(B, C, *spatial)`` in each band; with a smooth mask the two may overlap."""
    centred = maps.float() - maps.float().mean(tuple(range(2, maps.ndim)), keepdim=True)
    bands = zip(("low", "high"), split_bands(centred, cutoff, transition, shape), strict=True)
    return {name: float(band.pow(2).sum() / centred.pow(2).sum()) for name, band in bands}
