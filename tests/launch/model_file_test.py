#!/usr/bin/env python3
"""model_file_test.py WEIR: the Python lines of common/io/README.md load a model, and with what its
attributes say numpy finds the loss that `weir eval` finds. Exits with 77 where h5py is missing."""

import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import h5py  # noqa: F401
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WEIR = sys.argv[1]
ROOT = pathlib.Path(__file__).resolve().parents[2]
HELD_OUT = 500
LENGTH = 24
TRAIN = ["train", "--placement", "local", "--steps", "20", "--batch", "4", "--micro-batch", "4",
         "--length", str(LENGTH), "--model.layers", "2", "--model.width", "24", "--model.heads", "2",
         "--model.feed-forward", "40", "--model.deviation", "0.3", "--attention.left", "5",
         "--attention.global-tokens", "0-1,9", "--data.held-out", str(HELD_OUT),
         "--rate.peak", "0.01", "--progress", "none", "--log-level", "error"]


def run(*words):
    return subprocess.run([WEIR, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def readme_lines():
    text = (ROOT / "common/io/README.md").read_text()
    return re.search(r"```python\n(.*?)```", text, re.S).group(1)


def positions_of(words):
    if words == "none":
        return []
    runs = [part.split("-") for part in words.split(",")]
    return [i for run in runs for i in range(int(run[0]), int(run[-1]) + 1)]


def logits(settings, weights, tokens):
    heads, count = settings["model.heads"], len(tokens)
    size = settings["model.width"] // heads

    def norm(x, name):
        centered = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centered ** 2).mean(-1, keepdims=True) + settings["norm.epsilon"])
        return centered / deviation * weights[name + ".weight"] + weights[name + ".bias"]

    def linear(x, name):
        return x @ weights[name + ".weight"].T + weights.get(name + ".bias", 0)

    def rotate(x):  # [count, heads, size]
        assert settings["rotary.pairing"] == "halves"
        angle = np.outer(np.arange(count), settings["rotary.base"] ** (-np.arange(0, size, 2) / size))
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., :size // 2], x[..., size // 2:]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)

    def gelu(x):
        assert settings["gelu"] == "tanh"
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))

    places = np.arange(count)
    is_global = np.isin(places, positions_of(settings["attention.global-tokens"]))
    before = places[:, None] - places
    seen = (before <= settings["attention.left"]) & (before >= -settings["attention.right"])
    seen |= is_global[:, None] | is_global
    if settings["attention.causal"]:
        seen &= before >= 0

    x = weights["embedding.weight"][tokens]
    if settings["model.positions"] == "learned":
        x = x + weights["positions.weight"][:count]
    for layer in range(settings["model.layers"]):
        block = f"layers.{layer}."
        normed = norm(x, block + "attention_norm")
        q, k, v = (linear(normed, f"{block}attention.{name}").reshape(count, heads, size)
                   for name in ("query", "key", "value"))
        if settings["model.positions"] == "rotary":
            q, k = rotate(q), rotate(k)
        scores = np.einsum("ihc,jhc->hij", q, k) / math.sqrt(size)
        scores = np.where(seen, scores, -np.inf)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mixed = np.einsum("hij,jhc->ihc", share, v).reshape(count, heads * size)
        x = x + linear(mixed, block + "attention.output")
        wide = gelu(linear(norm(x, block + "feed_forward_norm"), block + "feed_forward.up"))
        x = x + linear(wide, block + "feed_forward.down")
    name = "embedding.weight" if settings["model.tied"] else "output.weight"
    return norm(x, "final_norm") @ weights[name].T


def loss_of(settings, weights, text):
    """Mean over the held-out bytes, in windows of LENGTH side by side."""
    assert settings["tokenizer"] == "bytes"
    total, first = 0.0, len(text) - HELD_OUT
    for target in range(first, len(text), LENGTH):
        end = min(target + LENGTH, len(text))
        begin = end - LENGTH - 1  # a window is full; its last bytes are scored
        out = logits(settings, weights, text[begin:end - 1])
        out = out - out.max(-1, keepdims=True)
        out = out - np.log(np.exp(out).sum(-1, keepdims=True))
        total -= out[np.arange(LENGTH), text[begin + 1:end]][target - end:].sum()
    return total / HELD_OUT


def check(folder, text, *options):
    run(*TRAIN, "--data.files", str(text), "--run", str(folder), *options)
    found = json.loads(run("eval", str(folder), "--json", "--data.stride", str(LENGTH),
                           "--progress", "none"))
    lines = {}
    exec(readme_lines(), lines)
    path = pathlib.Path(found["checkpoint"]) / "model.h5"
    settings, weights = lines["load_model"](path)
    assert settings["step"] == 20 and settings["format.version"] == 1, settings
    ours = loss_of(settings, {name: value.astype(float) for name, value in weights.items()},
                   np.frombuffer(text.read_bytes(), np.uint8))
    print(f"{' '.join(options)}: numpy {ours:.7f}, weir {found['loss']:.7f}")
    assert abs(ours - found["loss"]) < 2e-5, (ours, found["loss"])


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    text = folder / "text.txt"
    words = np.random.default_rng(1).choice(["the ", "weir ", "flows ", "over ", "stone. "], 1500)
    text.write_text("".join(words))
    check(folder / "rotary", text, "--model.positions", "rotary")
    check(folder / "learned", text, "--model.positions", "learned", "--model.tied", "false")
