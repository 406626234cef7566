#!/usr/bin/env python3
"""The training step of benchmarks/step.cpp in PyTorch, where that is installed: tokens a second.

The same model (pre-norm, GELU, window + global tokens as a mask), loss and AdamW, one process. PyTorch
has no window attention with a backward on CPUs, so attention is dense under a mask: that is what its
users have, and at long sequences most of the difference.

    benchmarks/peers/step.py [--length 4096] [--width 512] [--heads 8] [--layers 4] [--threads 1] [--steps 3]
"""
import argparse
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit("step.py: PyTorch is not installed; the benchmark does without this peer")


class Block(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(width) for _ in range(2)])
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def attend(self, x, mask):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
            y = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x, mask):
        x = x + self.attend(self.norms[0](x), mask)
        return x + self.down(F.gelu(self.up(self.norms[1](x)), approximate="tanh"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in {"length": 4096, "width": 512, "heads": 8, "layers": 4, "left": 16,
                        "globals": 4, "threads": 1, "steps": 3}.items():
        parser.add_argument("--" + name, type=int, default=value)
    a = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    blocks = torch.nn.ModuleList([Block(a.width, a.heads) for _ in range(a.layers)])
    embedding, norm = torch.nn.Embedding(256, a.width), torch.nn.LayerNorm(a.width)
    parameters = [p for m in (blocks, embedding, norm) for p in m.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, betas=(0.9, 0.95))
    at = torch.arange(a.length)
    ahead = at[:, None] - at[None, :]  # query - key
    mask = (ahead >= 0) & ((ahead <= a.left) | (at[None, :] < a.globals))
    text = torch.randint(256, (1, a.length + 1))
    seconds = []
    for step in range(a.steps + 1):
        begin = time.perf_counter()
        x = embedding(text[:, :-1])
        for block in blocks:
            x = block(x, mask)
        loss = F.cross_entropy((norm(x) @ embedding.weight.T)[0], text[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step > 0:  # the first one allocates
            seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds)
    print(f"PyTorch {torch.__version__}, {a.threads} thread(s), length {a.length}, width {a.width}, "
          f"{a.layers} layers: {a.length / median:.0f} tokens/s (median of {a.steps} steps)")


if __name__ == "__main__":
    main()
