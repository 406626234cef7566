#!/usr/bin/env python3
"""Writes and loads the state of benchmarks/checkpoint.cpp with h5py and with torch.save, where they are installed.

The state is equal tensors of f32, cut from the bytes of a file. Both write a new file and bring it to
the disk (fsync). Neither writes beside the old file and renames, nor brings the folder to the disk.

  h5py         a contiguous dataset for each tensor; no digests
  torch.save   a dict of tensors; a zip file with a CRC-32 of each tensor, which torch.load does not check

Loading is from the page cache, into fresh memory, which the kernel has to clear.

    benchmarks/peers/checkpoint.py --folder F --data FILE --tensors N --elements M [--json]

--json prints a line for each that is installed: {"peer", "version", "write_s", "load_s"}.
"""
import argparse
import json
import os
import time
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")


def timed(work, *words):
    begin = time.perf_counter()
    result = work(*words)
    return time.perf_counter() - begin, result


def with_h5py(data, count, size):
    import h5py
    import numpy
    tensors = numpy.fromfile(data, dtype="f4", count=count * size).reshape(count, size)

    def write(path):
        with h5py.File(path, "w") as file:
            for at, tensor in enumerate(tensors):
                file.create_dataset(f"layers.{at}", data=tensor)
        with open(path, "rb+") as file:
            os.fsync(file.fileno())

    def load(path):
        with h5py.File(path, "r") as file:
            return {name: dataset[...] for name, dataset in file.items()}

    return h5py.__version__, write, load


def with_torch(data, count, size):
    import torch
    whole = torch.from_file(data, shared=False, size=count * size, dtype=torch.float32)
    # Clones: torch.save writes the whole storage behind a view.
    tensors = {f"layers.{at}": part.clone() for at, part in enumerate(whole.split(size))}

    def write(path):
        with open(path, "wb") as file:
            torch.save(tensors, file)
            file.flush()
            os.fsync(file.fileno())

    return torch.__version__, write, lambda path: torch.load(path, weights_only=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tensors", type=int, required=True)
    parser.add_argument("--elements", type=int, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    path = os.path.join(options.folder, "peer")
    for name, make in (("h5py", with_h5py), ("torch.save", with_torch)):
        try:
            version, write, load = make(options.data, options.tensors, options.elements)
        except ImportError:
            continue
        os.sync()
        write_s, _ = timed(write, path)
        load_s, loaded = timed(load, path)
        assert len(loaded) == options.tensors
        os.remove(path)
        line = {"peer": name, "version": version, "write_s": write_s, "load_s": load_s}
        print(json.dumps(line) if options.json else
              f"{name} {version}: written in {write_s:.3f} s, loaded in {load_s:.3f} s", flush=True)


main()
