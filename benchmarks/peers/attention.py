#!/usr/bin/env python3
"""The peers of weir's window + global attention in PyTorch, where that is installed: milliseconds, memory.

Bidirectional, batch 1, f32: each token sees `window` tokens before and after itself and the first
`globals` tokens, which see all and share the projections. Two peers:

  chunked  the portable form of Longformer (Beltagy et al., arXiv 2004.05150, section 3.2 and appendix A),
           written from the paper: the window attention with a backward that PyTorch has on CPUs
  sdpa     torch.nn.functional.scaled_dot_product_attention, dense, no mask

    benchmarks/peers/attention.py [--lengths 1024,4096] [--windows 16,64] [--threads 1] [--json]
    benchmarks/peers/attention.py --check      chunked against masked dense attention, f64

Forward is without gradients, `both` is forward and backward. Memory is that of forward and backward in
a fresh process: what it holds at most beyond q, k, v, their gradients, the output and its gradient;
what PyTorch's libraries load and allocate once, at any size, is left out.
Dense attention that would take more than 20 s is measured on one head, time and memory times the heads;
the column `heads` tells. --json prints a line a case, with `window` null where dense:

    {"peer", "length", "window", "forward_ms", "both_ms", "extra_bytes", "torch", "heads_measured",
     "sgemm_gflops"}
"""
import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit("attention.py: PyTorch is not installed; the benchmark does without this peer")

LONG_S = 20  # dense attention that takes longer is measured on one head


def blocks_of(x, width, count):
    """[H, N, C] -> [H, count + 2, width, C]: blocks of tokens, one of zeros before and one behind."""
    heads, length, size = x.shape
    return F.pad(x, (0, 0, width, (count + 1) * width - length)).view(heads, count + 2, width, size)


def band_mask(length, count, window, global_count, like):
    """[count, w, 2w + 1]: -inf where a column of the band is no token, or a global one, else 0."""
    key = torch.arange(count * window)[:, None] + torch.arange(-window, window + 1)
    outside = (key < global_count) | (key >= length)
    return like.new_zeros(key.shape).masked_fill(outside, float("-inf")).view(count, window, -1)


def chunked(q, k, v, window, global_count):
    """q, k, v: [H, N, C] -> [H, N, C]. window >= 1; 1 <= global_count <= N."""
    heads, length, size = q.shape
    w, g = window, global_count
    count = -(-length // w)  # of blocks of w tokens
    q = q * size**-0.5
    q_blocks, k_blocks, v_blocks = (blocks_of(x, w, count) for x in (q, k, v))

    # Products of queries and keys in chunks of two blocks that overlap by one: [H, count + 1, 2w, 2w].
    q_chunks, k_chunks = (torch.cat([x[:, :-1], x[:, 1:]], 2) for x in (q_blocks, k_blocks))
    product = q_chunks @ k_chunks.transpose(2, 3)
    # Rows 2w + 1 apart are diagonals made columns (the paper pads and reshapes; a stride copies less):
    # from row w on the w keys before each query of the chunk's second block, from row 0 of the next
    # chunk the same query and the w keys after it.
    area = 4 * w * w
    strides = ((count + 1) * area, area, 2 * w + 1, 1)
    before = product.as_strided((heads, count, w, w), strides, 2 * w * w)
    after = product.as_strided((heads, count, w, w + 1), strides, area)
    band = torch.cat([before, after], 3) + band_mask(length, count, w, g, q)

    # One softmax over the global scores and the band.
    to_globals = q_blocks[:, 1:-1].flatten(1, 2) @ k[:, :g].transpose(1, 2)
    weights = torch.cat([to_globals.view(heads, count, w, g), band], 3).softmax(3)
    global_weights, band_weights = weights.split([g, 2 * w + 1], 3)

    # The way back: row a of a block moves a columns to the right, over the keys of three blocks.
    shape, area = (heads, count, w, 3 * w), w * (3 * w + 1)
    skewed = F.pad(band_weights, (0, w)).as_strided(shape, (count * area, area, 3 * w, 1))
    values = torch.cat([v_blocks[:, :-2], v_blocks[:, 1:-1], v_blocks[:, 2:]], 2)
    out = (skewed @ values).flatten(1, 2) + global_weights.flatten(1, 2) @ v[:, :g]

    global_rows = (q[:, :g] @ k.transpose(1, 2)).softmax(2) @ v
    return torch.cat([global_rows, out[:, g:length]], 1)


def masked_dense(q, k, v, window, global_count):
    """The truth of --check: all pairs, those that are not visible at -inf."""
    at = torch.arange(q.shape[1])
    is_global = at < global_count
    visible = ((at[:, None] - at).abs() <= window) | is_global[:, None] | is_global
    scores = (q @ k.transpose(1, 2) * q.shape[2] ** -0.5).masked_fill(~visible, float("-inf"))
    return scores.softmax(2) @ v


def check():
    torch.manual_seed(1)
    worst = 0.0
    for length in (4, 5, 16, 31, 32, 33, 100, 257):
        for window in (1, 2, 7, 16, 40):
            for global_count in (1, 4):
                inputs = [torch.randn(3, length, 8, dtype=torch.float64) for _ in range(4)]
                found = []
                for attend in (chunked, masked_dense):
                    qkv = [x.clone().requires_grad_() for x in inputs[:3]]
                    out = attend(*qkv, window, global_count)
                    out.backward(inputs[3])
                    found.append([out.detach()] + [x.grad for x in qkv])
                for name, ours, truth in zip(("output", "dq", "dk", "dv"), *found):
                    error = (ours - truth).abs().max().item()
                    if not error <= 1e-10:  # also if it is no number
                        sys.exit(f"attention.py: {name} is off by {error:.3g} at length {length}, "
                                 f"window {window}, {global_count} globals")
                    worst = max(worst, error)
    print(f"chunked = masked dense in f64, output and gradients: worst error {worst:.2g}")


def attention_of(window, global_count):
    """The peer of this window (None: dense) as a function of q, k, v: [H, N, C]."""
    if window is not None:
        return lambda q, k, v: chunked(q, k, v, window, global_count)
    return lambda q, k, v: F.scaled_dot_product_attention(q[None], k[None], v[None])[0]


def seconds_of(action):
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def median_ms(action, first):
    """Median of several after a first, which took so many seconds; of it alone if it was long."""
    repeats = 0 if first > 5 else max(3, min(15, int(4 / first)))
    return 1e3 * statistics.median([seconds_of(action) for _ in range(repeats)] or [first])


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak_bytes():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Case:
    """Attention of some heads, run once: how long that took, and the memory beyond inputs and results."""

    def __init__(self, attend, heads, length):
        self.attend, self.heads = attend, heads
        *self.qkv, self.gradient = (torch.randn(heads, length, 64) for _ in range(4))
        before = resident_bytes()
        self.seconds = seconds_of(self.both)
        results = 4 * self.gradient.nbytes  # output and three gradients
        self.extra_bytes = max(0, peak_bytes() - before - results)

    def forward(self):
        with torch.no_grad():
            self.attend(*self.qkv)

    def both(self):
        for x in self.qkv:
            x.grad = None
            x.requires_grad_()
        self.attend(*self.qkv).backward(self.gradient)


def measure(a, length, window, heads):
    """One case, measured on so many heads in a process of its own; returns its line."""
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    Case(attention_of(window and 4, a.globals), 1, 64)  # loads what is loaded once
    case = Case(attention_of(window, a.globals), heads, length)
    scale = a.heads / heads
    return {"peer": "sdpa" if window is None else "chunked", "length": length, "window": window,
            "forward_ms": scale * median_ms(case.forward, seconds_of(case.forward)),
            "both_ms": scale * median_ms(case.both, case.seconds),
            "extra_bytes": round(scale * case.extra_bytes),
            "torch": torch.__version__, "heads_measured": heads}


def in_a_process(function, *arguments):
    # Forked from this one, which never computes: memory begins at what `import torch` takes.
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()


def gemm_gflops(threads):
    torch.set_num_threads(threads)
    x = torch.randn(2048, 2048)
    return 2 * 2048**3 / min(seconds_of(lambda: x @ x) for _ in range(5)) / 1e9


def main():
    numbers = lambda text: [int(word) for word in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=numbers, default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--windows", type=numbers, default=[16, 64, 256], help="on each side")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=["chunked", "sdpa"])
    for name, value in {"heads": 8, "globals": 4, "threads": 1}.items():
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--json", action="store_true", help="a line a case")
    parser.add_argument("--check", action="store_true", help="chunked against masked dense, f64")
    a = parser.parse_args()
    if a.check:
        return check()
    if not (1 <= a.globals <= min(a.lengths) and min(a.windows) >= 1):
        parser.error("at least one global token, no more than tokens, and windows of at least 1")
    windows = (a.windows if "chunked" in a.peers else []) + ([None] if "sdpa" in a.peers else [])
    sgemm = in_a_process(gemm_gflops, a.threads)
    if not a.json:
        print(f"PyTorch {torch.__version__}, {a.threads} thread(s), {a.heads} heads of 64, "
              f"{a.globals} globals; its sgemm: {sgemm:.0f} GFLOP/s\n"
              "   length  peer     window   forward ms      both ms   memory MiB  heads")
    for length in a.lengths:
        for window in windows:
            line = None
            if window is None:
                line = in_a_process(measure, a, length, window, 1)
            if line is None or line["both_ms"] < 1e3 * LONG_S:
                line = in_a_process(measure, a, length, window, a.heads)
            if a.json:
                print(json.dumps(line | {"sgemm_gflops": round(sgemm, 1)}), flush=True)
            else:
                print(f"{length:9}  {line['peer']:7}  {window or '':6}  {line['forward_ms']:11.1f}  "
                      f"{line['both_ms']:11.1f}  {line['extra_bytes'] / 2**20:11.1f}  "
                      f"{line['heads_measured']:5}", flush=True)


if __name__ == "__main__":
    main()
