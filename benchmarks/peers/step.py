#!/usr/bin/env python3
"""The training step of benchmarks/step.cpp in PyTorch, in every form that the installed version can do.

The model is weir's: pre-norm blocks, rotary positions, biases in all projections of a block, tanh GELU,
a final norm, and the embedding as output. A token sees `left` tokens before itself and the first
`globals` tokens. A step is one sample: forward, mean cross-entropy, backward, gradients clipped to a
norm of 1, fused AdamW with decay of matrices. With weir's weights it has weir's loss and norm.

Forms of attention:

  dense         scaled_dot_product_attention over all pairs, under a mask
  chunked C     the sequence in chunks of C tokens: each sees itself, the chunk before it and the globals
  chunked C, sdpa   the same, with scaled_dot_product_attention for all chunks at once
  flex          FlexAttention, where it has a backward on CPUs

Each form runs eager and compiled (torch.compile), in fp32 and in bf16 (autocast). The best form of a
precision is the peer.

    benchmarks/peers/step.py [--length 4096] [--width 512] [--precisions fp32,bf16] [--json]
    benchmarks/peers/step.py --forms 'dense;chunked 32' --modes compiled --core 1
    benchmarks/peers/step.py --check     all forms against dense attention, f64 and f32

--json prints a line for each form; one that cannot run has `error` instead of times:

    {"attention", "mode", "precision", "tokens_s", "step_s", "first_step_s", "loss", "torch"}
"""
import argparse
import json
import logging
import os
import statistics
import sys
import time
import warnings

# Neither NumPy nor CUDA is missed here.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    sys.exit("step.py: PyTorch is not installed; the benchmark does without this peer")

CHUNKS = (16, 32, 64, 128)
VOCABULARY = 256


def visible(query, key, left, globals_):
    """Who sees whom: worker/kernels/visible.hpp, causal. A global query sees all tokens before it."""
    return (key <= query) & ((query - key <= left) | (key < globals_) | (query < globals_))


def as_bias(mask, dtype):
    """0 where the mask is true, else -inf."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))


class Dense:
    def __init__(self, length, left, globals_, dtype):
        at = torch.arange(length)
        self.bias = as_bias(visible(at[:, None], at[None], left, globals_), dtype)

    def __call__(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)


class Flex:
    def __init__(self, length, left, globals_, dtype):
        from torch.nn.attention import flex_attention as flex
        mask = lambda batch, head, query, key: visible(query, key, left, globals_)
        self.mask = flex.create_block_mask(mask, None, None, length, length, device="cpu")
        self.attend = flex.flex_attention

    def __call__(self, q, k, v):
        return self.attend(q, k, v, block_mask=self.mask)


class Chunked:
    """q, k, v: [B, H, N, C]. Chunks of `size` tokens, at least as many as a token sees before itself.

    Global queries need no products of their own while they lie in the first chunk: they see what is
    before them, and all of that is in their chunk.
    """

    def __init__(self, length, left, globals_, dtype, size, fused):
        if left > size or globals_ > size:
            raise ValueError(f"chunks of {size} are shorter than the window or hold not all globals")
        self.size, self.fused, self.length = size, fused, length
        self.globals = min(globals_, length)
        self.chunks = -(-length // size)
        query = torch.arange(self.chunks * size).view(self.chunks, size, 1)
        key = torch.arange(2 * size) + (torch.arange(self.chunks) - 1).view(-1, 1, 1) * size
        local = visible(query, key, left, globals_) & (key >= self.globals)  # each key once
        to_globals = torch.arange(self.globals) <= query
        # [chunks, size, globals + 2 size]: the globals, the chunk before, the chunk itself.
        self.bias = as_bias(torch.cat([to_globals, local], 2), dtype)

    def fold(self, x, before):
        """[B, H, N, C] -> [B, H, before + chunks, size, C], zeros before and behind the sequence."""
        behind = self.chunks * self.size - self.length
        return F.pad(x, (0, 0, before * self.size, behind)).unflatten(2, (-1, self.size))

    def __call__(self, q, k, v):
        attend = self.fused_attention if self.fused else self.attention
        return attend(self.fold(q, 0), k, v).flatten(2, 3)[:, :, :self.length]

    def attention(self, q, k, v):
        k_global, v_global = (x[:, :, None, :self.globals] for x in (k, v))
        k, v = self.fold(k, 1), self.fold(v, 1)
        q = q * q.shape[-1] ** -0.5
        scores = [q @ keys.transpose(-1, -2) for keys in (k_global, k[:, :, :-1], k[:, :, 1:])]
        weights = (torch.cat(scores, -1) + self.bias).softmax(-1)
        to_global, to_before, to_own = weights.split([self.globals, self.size, self.size], -1)
        return to_global @ v_global + to_before @ v[:, :, :-1] + to_own @ v[:, :, 1:]

    def fused_attention(self, q, k, v):
        def seen(x):  # [chunks, H, globals + 2 size, C]
            chunks = self.fold(x, 1)
            everyones = x[:, :, None, :self.globals].expand(-1, -1, self.chunks, -1, -1)
            keys = torch.cat([everyones, chunks[:, :, :-1], chunks[:, :, 1:]], 3)
            return keys.transpose(1, 2).flatten(0, 1)

        batch = q.shape[0]
        bias = self.bias.repeat(batch, 1, 1)[:, None]
        out = F.scaled_dot_product_attention(q.transpose(1, 2).flatten(0, 1), seen(k), seen(v), attn_mask=bias)
        return out.unflatten(0, (batch, self.chunks)).transpose(1, 2)


def forms(left, globals_):
    """name -> maker(length, left, globals, dtype)."""
    made = {"dense": Dense}
    for size in CHUNKS:
        if size < max(left, globals_):
            continue
        made[f"chunked {size}"] = lambda *a, size=size: Chunked(*a, size, False)
        made[f"chunked {size}, sdpa"] = lambda *a, size=size: Chunked(*a, size, True)
    made["flex"] = Flex
    return made


class Rotary:
    """Rotates features c and c + C/2 of each head by position * 10000^(-2c / C)."""

    def __init__(self, length, head_size, dtype):
        half = head_size // 2
        frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
        self.cosine, self.sine = angle.cos().to(dtype), angle.sin().to(dtype)

    def __call__(self, x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * self.cosine - b * self.sine, b * self.cosine + a * self.sine], -1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, rotary, attend):
        qkv = self.qkv(self.attention_norm(x))
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in qkv.chunk(3, -1))
        y = attend(rotary(q), rotary(k), v)
        x = x + self.output(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh"))


class Model(nn.Module):
    """tokens, targets: [B, N] -> the mean loss."""

    def __init__(self, layers, width, heads, length, attend, low):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.final_norm = nn.LayerNorm(width)
        self.rotary, self.attend = Rotary(length, width // heads, low), attend
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                onto_residual = "output." in name or "down." in name
                nn.init.normal_(parameter, std=0.02 / ((2 * layers) ** 0.5 if onto_residual else 1))

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.rotary, self.attend)
        logits = F.linear(self.final_norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class Training:
    """One form: a model, its optimizer and its step."""

    def __init__(self, a, make_attention, mode, precision):
        torch.manual_seed(1)
        self.autocast = precision == "bf16"
        low = torch.bfloat16 if self.autocast else torch.float32
        attend = make_attention(a.length, a.left, a.globals, low)
        self.model = Model(a.layers, a.width, a.heads, a.length, attend, low)
        self.loss_of = self.model
        if mode == "compiled":
            torch._dynamo.reset()
            self.loss_of = torch.compile(self.model)
        matrices = [p for p in self.model.parameters() if p.dim() == 2]
        others = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        try:
            self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
        except (RuntimeError, TypeError):  # before PyTorch 2.4
            self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
        text = torch.randint(VOCABULARY, (1, a.length + 1))
        self.tokens, self.targets = text[:, :-1].contiguous(), text[:, 1:].contiguous()

    def step(self):
        """One step; returns the loss before it."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            loss = self.loss_of(self.tokens, self.targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def measure(a, make_attention, attention, mode, precision):
    line = {"attention": attention, "mode": mode, "precision": precision, "torch": torch.__version__}
    try:
        training, seconds, losses = Training(a, make_attention, mode, precision), [], []
        for _ in range(a.steps + 1):
            begin = time.perf_counter()
            losses.append(training.step())
            seconds.append(time.perf_counter() - begin)
    except Exception as error:  # what this version cannot do; the first line says what
        return line | {"error": str(error).strip().split("\n")[0] or type(error).__name__}
    first, *rest = seconds  # the first one compiles and allocates
    return line | {"tokens_s": a.length / statistics.median(rest), "step_s": rest,
                   "first_step_s": first, "loss": losses[0]}


def name_of(line):
    return f"{line['attention']}, {line['mode']}"


def report(a):
    chosen = forms(a.left, a.globals)
    for name in a.forms or chosen:
        if name not in chosen:
            sys.exit(f"step.py: there is no form '{name}'; there are: {'; '.join(chosen)}")
    if not a.json:
        print(f"PyTorch {torch.__version__}, {a.threads} thread(s), length {a.length}, width {a.width}, "
              f"{a.heads} heads, {a.layers} layers, window {a.left}, {a.globals} globals; "
              f"median of {a.steps} steps\n   tokens/s  precision  form")
    for precision in a.precisions:
        best = None
        for attention in a.forms or chosen:
            for mode in a.modes:
                line = measure(a, chosen[attention], attention, mode, precision)
                if "error" not in line and (best is None or line["tokens_s"] > best["tokens_s"]):
                    best = line
                if a.json:
                    print(json.dumps(line), flush=True)
                elif "error" in line:
                    print(f"          -  {precision:9}  {name_of(line)}: {line['error']}", flush=True)
                else:
                    print(f"{line['tokens_s']:11.0f}  {precision:9}  {name_of(line)}", flush=True)
        if best is not None and not a.json:
            print(f"the best of {precision}: {name_of(best)}, {best['tokens_s']:.0f} tokens/s")


def loss_and_gradients(attend, dtype, length, width=32, heads=4, layers=2):
    torch.manual_seed(1)
    model = Model(layers, width, heads, length, attend, dtype).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():  # so that attention is no mean, and biases matter
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    text = torch.randint(VOCABULARY, (2, length + 1))
    loss = model(text[:, :-1], text[:, 1:])
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


def check():
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        worst = {}
        for left, globals_ in ((16, 4), (1, 0), (7, 1), (16, 16), (40, 4)):
            for length in (1, 5, 16, 31, 33, 100, 257):
                shape = (length, left, globals_, dtype)
                loss, gradient = loss_and_gradients(Dense(*shape), dtype, length)
                for name, make in forms(left, globals_).items():
                    if name == "dense":
                        continue
                    try:
                        other_loss, other_gradient = loss_and_gradients(make(*shape), dtype, length)
                    except NotImplementedError as error:
                        worst[name] = str(error).split(".")[0]
                        continue
                    error = max(abs(other_loss - loss) / abs(loss),
                                ((other_gradient - gradient).norm() / gradient.norm()).item())
                    if not error <= bound:  # also if it is no number
                        sys.exit(f"step.py: {name} is off by {error:.3g} in {dtype}, length {length}, "
                                 f"window {left}, {globals_} globals")
                    worst[name] = max(worst.get(name, 0.0), error)
        print(f"loss and gradients of the model against dense attention, {dtype} (bound {bound:.0e}):")
        for name, error in worst.items():
            print(f"  {name}: " + (error if isinstance(error, str) else f"{error:.1e}"))


def main():
    words = lambda text: [word.strip() for word in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in {"length": 4096, "width": 512, "heads": 8, "layers": 4, "left": 16,
                        "globals": 4, "threads": 1, "steps": 3}.items():
        parser.add_argument("--" + name, type=int, default=value, metavar="N")
    parser.add_argument("--forms", type=lambda text: [word.strip() for word in text.split(";")],
                        help="forms of attention, separated by semicolons; all if left out")
    parser.add_argument("--modes", type=words, default=["eager", "compiled"])
    parser.add_argument("--precisions", type=words, default=["fp32", "bf16"])
    parser.add_argument("--core", type=int, metavar="N", help="run on this core only")
    parser.add_argument("--json", action="store_true", help="a line for each form")
    parser.add_argument("--check", action="store_true", help="all forms against dense attention")
    a = parser.parse_args()
    for name, known in {"modes": ("eager", "compiled"), "precisions": ("fp32", "bf16")}.items():
        for word in getattr(a, name):
            if word not in known:
                parser.error(f"--{name} {word}: choose from {', '.join(known)}")
    if a.core is not None:
        os.sched_setaffinity(0, {a.core})
    torch.set_num_threads(a.threads)
    check() if a.check else report(a)


if __name__ == "__main__":
    main()
