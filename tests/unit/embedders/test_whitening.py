"""PCA whitening."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cxrguard.embedders.whitening import fit_whitening


def features(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ torch.randn(d, d, generator=generator, dtype=torch.float64) + 3


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 30), d=st.integers(1, 12), dims=st.integers(1, 12), seed=st.integers(0, 50))
def test_whitened_features_are_uncorrelated_with_variance_one(n: int, d: int, dims: int, seed: int) -> None:
    x = features(n, d, seed)
    white = fit_whitening(x, dims)(x)
    assert white.shape == (n, min(dims, d, n - 1))
    torch.testing.assert_close(white.mean(dim=0), torch.zeros_like(white[0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(white.T @ white / (n - 1), torch.eye(white.shape[1], dtype=torch.float64), atol=1e-4, rtol=0)


def test_against_a_singular_value_decomposition() -> None:
    x, other = features(20, 8), features(5, 8, seed=1)
    _, values, rows = np.linalg.svd(x.numpy() - x.numpy().mean(axis=0))
    want = (other.numpy() - x.numpy().mean(axis=0)) @ rows[:3].T / (values[:3] / np.sqrt(19))
    np.testing.assert_allclose(np.abs(fit_whitening(x, 3)(other).numpy()), np.abs(want), rtol=1e-4)


def test_equal_features_give_equal_vectors_and_keep_their_type() -> None:
    x = features(20, 8).float()
    assert torch.equal(fit_whitening(x, 4)(x), fit_whitening(x.clone(), 4)(x)) and fit_whitening(x, 4)(x).dtype == torch.float32
    assert (fit_whitening(x, 4).projection.gather(0, fit_whitening(x, 4).projection.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("x", [torch.ones(5, 3), torch.ones(1, 3)])
def test_images_that_do_not_differ_are_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match="images that differ"):
        fit_whitening(x, 2)
    with pytest.raises(ValueError, match="dims"):
        fit_whitening(features(5, 3), 0)
