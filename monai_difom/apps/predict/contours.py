"""Contours of masks drawn into a picture."""

from __future__ import annotations

import cv2
import numpy as np

# Okabe and Ito's, which every eye tells apart; the first is seen best on tissue
COLORS = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def draw_contours(picture: np.ndarray, masks: np.ndarray, width: int | None = None) -> np.ndarray:
    """Return a copy of a picture with the inner edge of every mask in a colour of its own, and a black rim around it.

    The rim makes it seen on any ground.

    Args:
        picture: ``(H, W, 1 or 3)``, 8 bits.
        masks: ``(K, H, W)``, boolean.
        width: of the line in pixels; None makes it fit the picture.

    Returns:
        ``(H, W, 3)``, 8 bits.
    """
    drawn = np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture.copy()
    line = width or max(2, round(max(picture.shape) / 180))
    rim = (line + 1) // 2
    for number, mask in enumerate(masks):
        if mask.any():
            # only the part of the picture that the mask is in
            rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
            part = np.s_[
                max(0, rows[0] - rim) : rows[-1] + 1 + rim, max(0, columns[0] - rim) : columns[-1] + 1 + rim
            ]
            inside = mask[part].astype(np.uint8)
            # what lies outside of the picture is not the structure: the line is closed at its border
            core = cv2.erode(inside, _CROSS, iterations=line, borderType=cv2.BORDER_CONSTANT, borderValue=0)
            drawn[part][cv2.dilate(inside, _CROSS, iterations=rim) > inside] = 0
            drawn[part][inside > core] = COLORS[number % len(COLORS)]
    return drawn
