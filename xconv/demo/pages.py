"""The gallery's pages: of each the lines that a user would write, from a picture to named pictures or curves."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse.linalg import lsqr

import xconv
from xconv import ndimage, signal

Picture = Any
Shown = dict[str, Any]


def edges_and_blur(picture: Picture) -> Shown:
    """Functions of scipy.ndimage, on every core and on every library."""
    gray = picture.mean(axis=2)
    blurred = ndimage.gaussian_filter(gray, sigma=5)
    down, across = (ndimage.sobel(gray, axis=axis) for axis in (0, 1))
    spots = ndimage.gaussian_laplace(gray, sigma=2)
    return {
        "the picture": gray,
        "gaussian_filter, sigma 5": blurred,
        "sobel, both axes": np.hypot(across, down),
        "gaussian_laplace, sigma 2": spots,
    }


def template_matching(picture: Picture) -> Shown:
    """Normalized correlation finds a part again that was made brighter, and noisy."""
    gray, noise = picture.mean(axis=2), np.random.default_rng(0)
    part = 1.5 * gray[165:225, 180:290] + 30 * noise.standard_normal((60, 110))
    part = part - part.mean()
    box = np.ones(part.shape) / part.size
    mean, square = (signal.convolve(values, box, mode="valid") for values in (gray, gray**2))
    products = signal.correlate(gray, part, mode="valid") / part.size
    score = products / part.std() / np.sqrt(square - mean**2 + 1)
    row, column = np.unravel_index(score.argmax(), score.shape)
    found = gray[row : row + 60, column : column + 110]
    return {"the picture": gray, "what is looked for": part, "score": score, "what is there": found}


def deconvolution(picture: Picture) -> Shown:
    """A picture that was moved while it was taken, with noise of 1 in 255: a linear operator, and SciPy's lsqr."""
    sharp = picture.mean(axis=2)[60:316, 110:366]
    path = np.eye(13)[None, None] / 13  # along which it moved
    blur = xconv.linear_operator(path, (1, 1, *sharp.shape), padding="same", padding_mode="symmetric")
    noise = np.random.default_rng(0).standard_normal(sharp.size)
    seen = blur @ sharp.reshape(-1) + noise
    found = lsqr(blur, seen, damp=0.03, iter_lim=100)[0]
    return {"as it was": sharp, "as it was seen": seen.reshape(sharp.shape), "lsqr": found.reshape(sharp.shape)}


def filter_bank(picture: Picture) -> Shown:
    """A spectrogram of rising and falling tones: complex filters of many frequencies, in steps of 64 samples."""
    t = np.arange(16_000) / 8_000  # two seconds
    tones = np.sin(2 * np.pi * (200 + 600 * t) * t) + np.sin(2 * np.pi * (3500 - 500 * t) * t)
    frequencies = np.linspace(0, 4_000, 160)
    window, time = np.hanning(400), np.arange(-200, 200) / 8_000
    bank = window * np.exp(-2j * np.pi * frequencies[:, None] * time)
    y = xconv.conv(tones[None, None], bank[:, None], stride=64, padding="same")
    return {"both tones, the first 500 samples": tones[:500], "how much of each frequency": abs(y[0])}


def autoencoder(picture: Picture) -> Shown:
    """64 numbers become 8 and 64 again: trained in NumPy, by the gradients that conv and conv_transpose have here."""
    x = (picture.mean(axis=2)[None, None, :512, :512] - 128).astype(np.float32) / 64
    draw = np.random.default_rng(0).standard_normal
    w, v = (0.05 * draw((8, 1, 12, 12), dtype=np.float32) for _ in range(2))
    losses, pace = [], [0.0, 0.0]
    for _ in range(300):
        code = xconv.conv(x, w, stride=8, padding=2)
        error = xconv.conv_transpose(code, v, stride=8, padding=2) - x
        dcode, dv, _ = xconv.conv_transpose_backward(error / x.size, code, v, stride=8, padding=2)
        dw = xconv.conv_weight_grad(dcode, x, 12, stride=8, padding=2)
        pace = [0.9 * before + (dy**2).mean() for before, dy in zip(pace, (dw, dv), strict=True)]
        w, v = (a - 0.003 * dy / np.sqrt(s) for a, dy, s in zip((w, v), (dw, dv), pace, strict=True))
        losses.append(float((error**2).mean()))
    return {"the picture": x[0, 0], "from an eighth of the numbers": (x + error)[0, 0], "loss, by steps": losses}


def by_chunks(picture: Picture) -> Shown:
    """A picture in chunks, of which a filtered part is computed from the chunks that it reads, and nothing else."""
    import dask.array as da

    chunks = da.from_array(picture.mean(axis=2)[None, None], chunks=(1, 1, 150, 128))
    rows, columns = np.mgrid[-6:7, -6:7]
    bell = np.exp(-(rows**2 + columns**2) / 18)[None, None]
    filtered = xconv.conv(chunks, bell / bell.sum(), padding="same", padding_mode="symmetric")
    part = filtered[0, 0, 200:300, 150:250].compute()
    return {"the picture, in chunks": chunks[0, 0], "a part, computed alone": part, "all, with it": filtered[0, 0]}


PAGES = (edges_and_blur, template_matching, deconvolution, filter_bank, autoencoder, by_chunks)
