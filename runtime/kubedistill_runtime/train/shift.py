"""How far training moved a model's hidden states, along the two main directions in which the base's own differ. Pure.

After the DED paper's PCA shift (arXiv 2508.09883, figure 4). Per layer the two axes are those of a principal component
analysis of the base's vectors, one vector a prompt; the states of base and student are projected onto them without
centring, and averaged over the prompts. The shift is the distance between the two states' means over layers.

Shapes: L layers, K prompts, E hidden size.
"""

import numpy as np

PROMPTS = 100
"""Traces whose hidden states are compared, at most."""
TOKENS = 128
"""First tokens of each, prompt included."""
AXES = 2
FLAT = 1e-6
"""A direction along which vectors vary less, relative to the first, is none."""


def main_axes(vectors_KE: np.ndarray) -> np.ndarray:
    """(2, E): the directions of most variance, of length 1; zeros where there are fewer.

    An axis has no sign of its own, and the shift averages over layers: the entry of largest magnitude is made positive.
    """
    centred = vectors_KE.astype(np.float64) - vectors_KE.mean(0, dtype=np.float64)
    _, strengths, directions = np.linalg.svd(centred, full_matrices=False)
    axes = np.zeros((AXES, vectors_KE.shape[1]))
    scale = np.abs(vectors_KE).max(initial=0.0)
    for at, (strength, direction) in enumerate(zip(strengths[:AXES], directions, strict=False)):
        if strength > FLAT * max(strengths[0], scale):
            axes[at] = direction * np.sign(direction[np.abs(direction).argmax()])
    return axes


def moved(axes_L2E: np.ndarray, base_LE: np.ndarray, now_LE: np.ndarray) -> np.ndarray:
    """(L, 2): how far the mean state of each layer went along its axes."""
    return np.einsum("lae,le->la", axes_L2E, now_LE.astype(np.float64) - base_LE)


def shift(moved_L2: np.ndarray) -> float:
    """Length of the mean over layers."""
    return float(np.linalg.norm(moved_L2.mean(0)))
