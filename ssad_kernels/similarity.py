# SPDX-License-Identifier: Apache-2.0
"""How alike images and their reconstructions are: gradient magnitudes (GMS), structure (SSIM).

Xue, Zhang, Mou and Bovik, "Gradient Magnitude Similarity Deviation", IEEE TIP 2014; Wang, Bovik,
Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity",
IEEE TIP 2004; in the form of RIAD (Zavrtanik, Kristan and Skočaj, Pattern Recognition 2021) and SSM
(Huang, Xu, Wang, Wang and Zhang, IEEE TMM 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssad_kernels import similarity_op
from ssad_kernels._errors import check_tensor, wording


def gms_map(images: Tensor, references: Tensor, *, scales: int = 4, c: float = 0.0026) -> Tensor:
    """Similarity of gradient magnitudes, pixel by pixel: the mean over some scales.

    Of each scale: the channels' mean, medians of 3 x 3 with zeros beyond the image, Prewitt's
    slopes divided by 3 where all of the window is inside, ``sqrt(dx² + dy² + 2⁻⁵²)`` of both images
    (a and b) and ``(2 a b + c) / (a² + b² + c)``; resized bilinearly (``align_corners=False``) to
    the image's size. The next scale is of 2 x 2 pixels' means.

    Args:
        images: (N, C, H, W), C = 1...4, fewer than 2³¹ pixels each, uint8 in 0...255 or a float
            dtype in 0...1, any strides.
        references: of the same shape, dtype and device.
        scales: 1...8. At least 3 pixels a side are to be left of the last: H and W are at least
            3 · 2^(scales - 1).
        c: 1e-12...1e6; slopes well below its root count as none.

    Returns:
        (N, 1, H, W), float32, or float64 for float64 images; in (0, 1], and exactly 1 where the
        images are equal. SSM's score of one masking is ``1 / scales - map``.

    Raises:
        TypeError: for a kind or a dtype.
        ValueError: for a shape, a device, a number out of its range, or tensors that require a
            gradient.

    Gradient: none, `gms_loss` has one. Determinism: bitwise within a backend and instruction set,
    in any batch, layout, and for any number of threads. Numbers: float32 arithmetic, float64 for
    float64 images. A pixel that is not finite makes those NaN whose windows reach it, of its own
    image.

    Source: RIAD and SSM's code, for the numbers of the default too.

    Example:
        >>> import torch
        >>> images = torch.rand(2, 3, 64, 64)
        >>> broken = images.clone()
        >>> broken[0, :, 24:40, 24:40] = 0.5
        >>> similarity = gms_map(broken, images)
        >>> bool(similarity[0, 0, 28:36, 28:36].mean() < similarity[0, 0, :16].mean())
        True
        >>> bool((similarity[1] == 1).all())
        True
    """
    _check_kinds("gms_map", images, references)
    for name, value in (("images", images), ("references", references)):
        if value.requires_grad and torch.is_grad_enabled():
            must = "not require a gradient (gms_loss has one)"
            raise ValueError(wording("gms_map", name, must, "True"))
    found: Tensor = similarity_op.gms_map(images, references, scales, c)
    return found


def gms_loss(images: Tensor, references: Tensor, *, scales: int = 4, c: float = 0.0026) -> Tensor:
    """Mean over the scales of the mean of 1 - GMS at that scale, of each image.

    See `gms_map` for the similarity; here its maps are not resized.

    Args:
        images: (N, C, H, W), as `gms_map` takes them.
        references: of the same shape, dtype and device.
        scales: as of `gms_map`.
        c: as of `gms_map`.

    Returns:
        (N,), float32, or float64 for float64 images; exactly 0 for equal images.

    Raises:
        TypeError: for a kind or a dtype.
        ValueError: for a shape, a device, or a number out of its range.

    Gradient: with respect to both images, once (it has none itself). That of a median goes to the
    first pixel of the window, row by row, that is as large. Determinism: bitwise within a backend
    and instruction set, in any batch, layout, and for any number of threads; forwards and
    backwards. Numbers: float32 arithmetic, float64 for float64 images. A pixel that is not finite
    makes its own image's loss NaN, and no other.

    Source: RIAD and SSM's code.

    Example:
        >>> import torch
        >>> images = torch.rand(2, 3, 64, 64)
        >>> reconstructed = torch.rand(2, 3, 64, 64, requires_grad=True)
        >>> gms_loss(reconstructed, images).mean().backward()
        >>> reconstructed.grad.shape
        torch.Size([2, 3, 64, 64])
        >>> gms_loss(images, images)
        tensor([0., 0.])
    """
    _check_kinds("gms_loss", images, references)
    loss: Tensor = similarity_op.gms_loss(images, references, scales, c)
    return loss


def ssim_map(images: Tensor, references: Tensor, *, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity, pixel by pixel and channel by channel.

    ``(2 m n + C1) (2 cov + C2) / ((m² + n² + C1) (v + w + C2))`` of means m and n, variances v and
    w and the covariance under a Gaussian window, with zeros beyond the image, C1 = 0.01² and
    C2 = 0.03².

    Args:
        images: (N, C, H, W), C = 1...4, fewer than 2³¹ pixels each, uint8 in 0...255 or a float
            dtype in 0...1, any strides.
        references: of the same shape, dtype and device.
        window: taps along an axis, odd, 1...63.
        sigma: standard deviation of the Gaussian in pixels, 1e-3...1e6; its taps are made to add
            up to 1.

    Returns:
        (N, C, H, W), contiguous, float32, or float64 for float64 images; exactly 1 where images are
        equal. RIAD's loss is ``1 - ssim_map(a, b).mean()``.

    Raises:
        TypeError: for a kind or a dtype.
        ValueError: for a shape, a device, or a number out of its range.

    Gradient: with respect to both images, once (it has none itself). Determinism: bitwise within a
    backend and instruction set, in any batch, layout, and for any number of threads; forwards and
    backwards. Numbers: float32 arithmetic, float64 for float64 images; in float32 a variance is a
    difference of squares of size 1, so that 1 minus the result is good to three digits where images
    are bright and flat. A pixel that is not finite makes those NaN whose windows reach it, of its
    own plane.

    Source: RIAD and SSM's code.

    Example:
        >>> import torch
        >>> images = torch.rand(2, 3, 32, 32)
        >>> noisy = (images + 0.1 * torch.randn(2, 3, 32, 32)).requires_grad_()
        >>> loss = 1 - ssim_map(noisy, images).mean()
        >>> loss.backward()
        >>> bool(loss > 0)
        True
    """
    _check_kinds("ssim_map", images, references)
    found: Tensor = similarity_op.ssim_map(images, references, window, sigma)
    return found


def _check_kinds(op: str, images: object, references: object) -> None:
    check_tensor(op, "images", images)
    check_tensor(op, "references", references)
