"""CKA: what it must not see (axes, scale, mean) and what it must."""

from __future__ import annotations

import pytest
import torch

from monai_difom.metrics import linear_cka


def features(count: int = 200, channels: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


def test_rotation_scale_and_shift_do_not_matter() -> None:
    x = features()
    rotation = torch.linalg.qr(features(6, 6, 1))[0]
    assert linear_cka(x, 3 * x @ rotation + 5) == pytest.approx(1, abs=1e-6)


def test_it_is_symmetric_and_falls_as_noise_comes_in() -> None:
    x, noise = features(), features(seed=2)
    found = [linear_cka(x, x + s * noise) for s in (0.0, 0.5, 2.0)]
    assert found[0] == pytest.approx(1)
    assert found[0] > found[1] > found[2]
    assert linear_cka(x, x + noise) == pytest.approx(linear_cka(x + noise, x))


def test_unrelated_features_have_none_even_with_more_channels_than_examples() -> None:
    found = [linear_cka(features(40, 64, n), features(40, 48, n + 100)) for n in range(20)]
    assert abs(sum(found) / len(found)) < 0.03  # the plain estimator says about 0.6 here


def test_it_is_the_u_statistic_of_the_kernels() -> None:
    x, y = features(12, 3), features(12, 5, 1) + features(12, 3)[:, :1]
    n = len(x)
    ones = torch.ones(n, dtype=torch.float64)

    def hsic(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        k, m = (f.double() @ f.double().T for f in (a, b))
        k, m = k - k.diag().diag(), m - m.diag().diag()
        middle = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (k @ m).trace() + middle - 2 / (n - 2) * ones @ k @ m @ ones

    expected = hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt()
    assert linear_cka(x, y) == pytest.approx(float(expected), abs=1e-10)


def test_a_constant_has_no_similarity_and_unequal_examples_are_refused() -> None:
    assert linear_cka(features(), torch.ones(200, 3)) == 0
    with pytest.raises(ValueError, match="same examples"):
        linear_cka(features(), features(100))
