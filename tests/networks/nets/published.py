"""Published networks written anew as plain functions of their checkpoints, to compare the students with.

A function asks for every weight by its published name when it needs it. The first run makes random weights of the
shapes asked for; so the function is the list of keys, the checkpoint and the network at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.testers import StudentTester


class Published:
    """A checkpoint under its published names, with the layers that read it.

    Args:
        training: batch norm takes the statistics of the batch.
    """

    def __init__(self, training: bool = False) -> None:
        self.training = training
        self.state: dict[str, torch.Tensor] = {}
        self.random = torch.Generator().manual_seed(0)

    def take(self, key: str, *shape: int, mean: float = 0.0, spread: float = 0.3) -> torch.Tensor:
        """Return a weight, made at the first call."""
        if key not in self.state:
            self.state[key] = mean + spread * (2 * torch.rand(shape, generator=self.random) - 1)
        assert self.state[key].shape == shape, key
        return self.state[key]

    def conv(
        self,
        x: torch.Tensor,
        name: str,
        out: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        padding: int | None = None,
    ) -> torch.Tensor:
        """A convolution that keeps the size up to its stride, unless the padding says otherwise."""
        tall, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        fan_in = x.shape[1] // groups * tall * wide
        weight = self.take(
            f"{name}.weight", out, x.shape[1] // groups, tall, wide, spread=(3 / fan_in) ** 0.5
        )
        shift = self.take(f"{name}.bias", out) if bias else None
        pads = (dilation * (tall // 2), dilation * (wide // 2)) if padding is None else padding
        return F.conv2d(x, weight, shift, stride, pads, dilation, groups)

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Batch norm."""
        width = x.shape[1]
        self.state.setdefault(f"{name}.num_batches_tracked", torch.tensor(7))
        mean, var = self.take(f"{name}.running_mean", width), self.take(f"{name}.running_var", width, mean=1)
        weight, bias = self.take(f"{name}.weight", width, mean=1), self.take(f"{name}.bias", width)
        if self.training:
            return F.batch_norm(x, None, None, weight, bias, training=True)
        return F.batch_norm(x, mean, var, weight, bias)

    def linear(self, x: torch.Tensor, name: str, out: int) -> torch.Tensor:
        """A linear layer with bias."""
        wide = x.shape[-1]
        weight = self.take(f"{name}.weight", out, wide, spread=(3 / wide) ** 0.5)
        return F.linear(x, weight, self.take(f"{name}.bias", out))

    def layer_norm(self, x: torch.Tensor, name: str, eps: float) -> torch.Tensor:
        """Layer norm over the channels, which come last."""
        wide = x.shape[-1]
        return F.layer_norm(
            x, (wide,), self.take(f"{name}.weight", wide, mean=1), self.take(f"{name}.bias", wide), eps
        )


def bilinear(x: torch.Tensor, scale: float, align_corners: bool = False) -> torch.Tensor:
    """Resize by a factor."""
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=align_corners)


def pranet(
    p: Published,
    x: torch.Tensor,
    layers: Sequence[int] = (3, 4, 6, 3),
    planes: Sequence[int] = (64, 128, 256, 512),
    stem: int = 32,
    features: int = 32,
    reverse: Sequence[int] = (256, 64, 64),
) -> list[torch.Tensor]:
    """PraNet: lateral maps 5, 4, 3 and 2; the last is the prediction."""

    def conv_norm(x: torch.Tensor, name: str, *args: Any, **kwargs: Any) -> torch.Tensor:
        return p.norm(p.conv(x, f"{name}.conv", *args, **kwargs), f"{name}.bn")

    def bottle2neck(x: torch.Tensor, name: str, plane: int, stride: int, first: bool) -> torch.Tensor:
        width = plane * 26 // 64
        parts = F.relu(p.norm(p.conv(x, f"{name}.conv1", 4 * width), f"{name}.bn1")).split(width, 1)
        done: list[torch.Tensor] = []
        for i in range(3):
            y = parts[i] if first or not done else done[-1] + parts[i]
            y = p.norm(p.conv(y, f"{name}.convs.{i}", width, 3, stride), f"{name}.bns.{i}")
            done.append(F.relu(y))
        done.append(F.avg_pool2d(parts[3], 3, stride, 1) if first else parts[3])
        y = p.norm(p.conv(torch.cat(done, 1), f"{name}.conv3", 4 * plane), f"{name}.bn3")
        if first:
            x = F.avg_pool2d(x, stride, stride, ceil_mode=True, count_include_pad=False)
            x = p.norm(p.conv(x, f"{name}.downsample.1", 4 * plane), f"{name}.downsample.2")
        return F.relu(y + x)

    def field(x: torch.Tensor, name: str) -> torch.Tensor:
        found = [conv_norm(x, f"{name}.branch0.0", features)]
        for b, reach in ((1, 3), (2, 5), (3, 7)):
            y = conv_norm(x, f"{name}.branch{b}.0", features)
            y = conv_norm(y, f"{name}.branch{b}.1", features, (1, reach))
            y = conv_norm(y, f"{name}.branch{b}.2", features, (reach, 1))
            found.append(conv_norm(y, f"{name}.branch{b}.3", features, 3, dilation=reach))
        merged = conv_norm(torch.cat(found, 1), f"{name}.conv_cat", features, 3)
        return F.relu(merged + conv_norm(x, f"{name}.conv_res", features))

    def reverse_attention(
        x: torch.Tensor, crop: torch.Tensor, name: str, width: int, kernel: int, last: int
    ) -> torch.Tensor:
        y = (1 - crop.sigmoid()).expand(-1, x.shape[1], -1, -1) * x
        y = conv_norm(y, f"{name}_conv1", width)
        for n in range(2, last):
            y = F.relu(conv_norm(y, f"{name}_conv{n}", width, kernel))
        return conv_norm(y, f"{name}_conv{last}", 1, 1 if kernel == 5 else 3) + crop

    x = F.relu(p.norm(p.conv(x, "resnet.conv1.0", stem, 3, 2), "resnet.conv1.1"))
    x = F.relu(p.norm(p.conv(x, "resnet.conv1.3", stem, 3), "resnet.conv1.4"))
    x = F.relu(p.norm(p.conv(x, "resnet.conv1.6", 2 * stem, 3), "resnet.bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage, (count, plane) in enumerate(zip(layers, planes, strict=True)):
        for i in range(count):
            stride = 2 if stage and i == 0 else 1
            x = bottle2neck(x, f"resnet.layer{stage + 1}.{i}", plane, stride, first=i == 0)
        maps.append(x)
    p.take("resnet.fc.weight", 1000, 4 * planes[-1])  # never run
    p.take("resnet.fc.bias", 1000)

    x2, x3, x4 = (field(x, f"rfb{n}_1") for n, x in zip((2, 3, 4), maps[1:], strict=True))
    up4, up3 = bilinear(x4, 2, True), bilinear(x3, 2, True)
    y3 = conv_norm(up4, "agg1.conv_upsample1", features, 3) * x3
    y2 = conv_norm(bilinear(up4, 2, True), "agg1.conv_upsample2", features, 3)
    y2 = y2 * conv_norm(up3, "agg1.conv_upsample3", features, 3) * x2
    y3 = torch.cat([y3, conv_norm(up4, "agg1.conv_upsample4", features, 3)], 1)
    y3 = conv_norm(y3, "agg1.conv_concat2", 2 * features, 3)
    y3 = conv_norm(bilinear(y3, 2, True), "agg1.conv_upsample5", 2 * features, 3)
    y2 = conv_norm(torch.cat([y2, y3], 1), "agg1.conv_concat3", 3 * features, 3)
    y2 = conv_norm(y2, "agg1.conv4", 3 * features, 3)
    guess = p.conv(y2, "agg1.conv5", 1, bias=True)

    five = bilinear(guess, 8)
    guess = reverse_attention(maps[3], bilinear(guess, 0.25), "ra4", reverse[0], 5, 5)
    four = bilinear(guess, 32)
    guess = reverse_attention(maps[2], bilinear(guess, 2), "ra3", reverse[1], 3, 4)
    three = bilinear(guess, 16)
    guess = reverse_attention(maps[1], bilinear(guess, 2), "ra2", reverse[2], 3, 4)
    return [five, four, three, bilinear(guess, 8)]


def pvt_v2(
    p: Published,
    x: torch.Tensor,
    widths: Sequence[int] = (64, 128, 320, 512),
    depths: Sequence[int] = (3, 4, 6, 3),
    heads: Sequence[int] = (1, 2, 5, 8),
) -> list[torch.Tensor]:
    """PVTv2: maps at strides 4, 8, 16 and 32. The norms of embedding and attention have another epsilon."""

    def attention(x: torch.Tensor, name: str, grid: tuple[int, int], heads: int, ratio: int) -> torch.Tensor:
        batch, count, width = x.shape

        def split(y: torch.Tensor) -> torch.Tensor:
            return y.reshape(batch, -1, heads, width // heads).transpose(1, 2)

        q, source = split(p.linear(x, f"{name}.q", width)), x
        if ratio > 1:
            source = x.transpose(1, 2).reshape(batch, width, *grid)
            source = p.conv(source, f"{name}.sr", width, ratio, ratio, bias=True, padding=0)
            source = p.layer_norm(source.flatten(2).transpose(1, 2), f"{name}.norm", 1e-5)
        k, v = (split(half) for half in p.linear(source, f"{name}.kv", 2 * width).chunk(2, -1))
        weights = (q @ k.transpose(-2, -1) * (width // heads) ** -0.5).softmax(-1)
        return p.linear((weights @ v).transpose(1, 2).reshape(batch, count, width), f"{name}.proj", width)

    def mlp(x: torch.Tensor, name: str, grid: tuple[int, int], ratio: int) -> torch.Tensor:
        batch, _, width = x.shape
        inside = ratio * width
        y = p.linear(x, f"{name}.fc1", inside).transpose(1, 2).reshape(batch, inside, *grid)
        y = p.conv(y, f"{name}.dwconv.dwconv", inside, 3, groups=inside, bias=True)
        return p.linear(F.gelu(y.flatten(2).transpose(1, 2)), f"{name}.fc2", width)

    maps = []
    for n, (width, depth, ratio) in enumerate(zip(widths, depths, (8, 8, 4, 4), strict=True), start=1):
        kernel, stride = (7, 4) if n == 1 else (3, 2)
        x = p.conv(x, f"backbone.patch_embed{n}.proj", width, kernel, stride, bias=True)
        grid = (x.shape[2], x.shape[3])
        y = p.layer_norm(x.flatten(2).transpose(1, 2), f"backbone.patch_embed{n}.norm", 1e-5)
        for i in range(depth):
            block = f"backbone.block{n}.{i}"
            normed = p.layer_norm(y, f"{block}.norm1", 1e-6)
            y = y + attention(normed, f"{block}.attn", grid, heads[n - 1], 16 >> n)
            y = y + mlp(p.layer_norm(y, f"{block}.norm2", 1e-6), f"{block}.mlp", grid, ratio)
        y = p.layer_norm(y, f"backbone.norm{n}", 1e-6)
        x = y.transpose(1, 2).reshape(x.shape[0], width, *grid)
        maps.append(x)
    return maps


def emcadnet(p: Published, x: torch.Tensor, **encoder: Any) -> list[torch.Tensor]:
    """EMCADNet: heads 4, 3, 2 and 1; the last is the prediction."""

    def mscam(x: torch.Tensor, n: int) -> torch.Tensor:
        batch, width, height, wide = x.shape
        inner = width // min(16, width)
        cab, mscb = f"decoder.cab{n}", f"decoder.mscb{n}.0"
        pooled = (F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1))
        squeezed = (F.relu(p.conv(y, f"{cab}.fc1", inner)) for y in pooled)
        x = sum(p.conv(y, f"{cab}.fc2", width) for y in squeezed).sigmoid() * x
        pair = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
        x = p.conv(pair, "decoder.sab.conv", 1, 7).sigmoid() * x

        y = F.relu6(p.norm(p.conv(x, f"{mscb}.pconv1.0", 2 * width), f"{mscb}.pconv1.1"))
        total = 0
        for i, kernel in enumerate((1, 3, 5)):
            name = f"{mscb}.msdc.dwconvs.{i}"
            branch = p.conv(y, f"{name}.0", 2 * width, kernel, groups=2 * width)
            total = total + F.relu6(p.norm(branch, f"{name}.1"))
        # shuffled in as many groups as there are output channels, two channels each
        total = total.view(batch, width, 2, height, wide).transpose(1, 2).flatten(1, 2)
        return x + p.norm(p.conv(total, f"{mscb}.pconv2.0", width), f"{mscb}.pconv2.1")

    def gate(g: torch.Tensor, x: torch.Tensor, name: str) -> torch.Tensor:
        inside = x.shape[1] // 2
        y = sum(
            p.norm(p.conv(z, f"{name}.{w}.0", inside, 3, groups=inside, bias=True), f"{name}.{w}.1")
            for w, z in (("W_g", g), ("W_x", x))
        )
        return x * p.norm(p.conv(F.relu(y), f"{name}.psi.0", 1, bias=True), f"{name}.psi.1").sigmoid()

    grey = F.relu(p.norm(p.conv(x[:, :1], "conv.0", 3, bias=True), "conv.1"))
    maps = pvt_v2(p, grey if x.shape[1] == 1 else x, **encoder)
    outputs, d = [], maps[3]
    for n in (4, 3, 2, 1):
        if n < 4:
            up, width = f"decoder.eucb{n}", maps[n - 1].shape[1]
            d = F.interpolate(d, scale_factor=2.0, mode="nearest")
            d = F.relu(
                p.norm(p.conv(d, f"{up}.up_dwc.1", d.shape[1], 3, groups=d.shape[1]), f"{up}.up_dwc.2")
            )
            d = p.conv(d, f"{up}.pwc.0", width, bias=True)
            d = d + gate(d, maps[n - 1], f"decoder.lgag{n}")
        d = mscam(d, n)
        outputs.append(bilinear(p.conv(d, f"out_head{n}", 1, bias=True), 2 ** (n + 1)))
    return outputs


def published_keys(name: str) -> dict[str, Any]:
    """Keys and shapes of a real checkpoint; the test is skipped where the list is absent."""
    shared = Path(os.environ.get("DIFOM_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")).parent
    file = shared / "reference" / "checkpoint_keys" / f"{name}.json"
    if not file.is_file():
        pytest.skip(f"no list of published keys at {file}")
    return json.loads(file.read_text())


def assert_takes_every_key(
    make: Callable[..., nn.Module], load: Callable[..., nn.Module], name: str, parameters: int
) -> None:
    """A default network has the published number of parameters, and loads a checkpoint of the published keys."""
    shapes = published_keys(name)["keys"]
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in make().parameters()) == parameters
        for latents in ("none", "side"):
            state = {key: torch.empty(shape) for key, shape in shapes.items()}
            network = make(latents=latents)
            assert load(network, state) is network


def assert_refuses_what_does_not_fit(
    load: Callable[[dict[str, torch.Tensor]], nn.Module],
    state: dict[str, torch.Tensor],
    strange: Sequence[str],
    missing: tuple[str, str],
) -> None:
    """Strange keys are named; so is the place of a key that is missing."""
    for key in strange:
        with pytest.raises(ValueError, match=rf"1 keys have no place \({key}\), 0 parameters have no key"):
            load({**state, key: torch.zeros(1)})
    key, place = missing
    with pytest.raises(ValueError, match=rf"1 parameters have no key \({place}\)"):
        load({other: value for other, value in state.items() if other != key})


class SideOutputTester(StudentTester):
    """What holds for students of stride 32 with four side outputs, besides."""

    image_size = (64, 96)
    wrong_size = (72, 96)
    nearest = "64x96 or 96x96"

    @torch.no_grad()
    def test_in_training_the_outputs_go_from_coarse_to_fine_and_the_last_is_the_prediction(
        self, student: nn.Module, image: torch.Tensor
    ) -> None:
        prediction = student.eval()(image)
        student.training = True  # its norms stay in eval mode
        outputs = student(image)
        assert [output.shape for output in outputs] == [prediction.shape] * 4
        assert torch.equal(outputs[-1], prediction)
