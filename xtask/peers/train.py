"""train.py PEER NETWORK BATCH THREADS: PyTorch training steps, timed on demand.

Prints {"peer", "version"} when ready. Then, for every line on standard input, a number of seconds: takes steps for about
that long and prints {"median_ms", "min_ms", "runs", "peak_rss_mb"}. Between lines it is idle. Ends with its input. A step
is forward, cross-entropy, backward and SGD with momentum, in f32, on one random batch."""

import json
import os
import sys
import time

peer, name, batch, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
# Whatever PyTorch prints is not part of the protocol.
protocol = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch
import torch.nn.functional as F

from networks import build, side
from process import peak_rss_mb

LAYOUTS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}


def stepper(layout, compiled):
    """A call that takes a step."""
    layout = LAYOUTS[layout]
    network = build(name).train().to(memory_format=layout)
    # As in inference it was built for statistics of one pass.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
    size = side(name)
    classes = network.fc.out_features
    images = torch.randn(batch, 3, size, size).to(memory_format=layout)
    labels = torch.randint(0, classes, (batch,))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    forward = torch.compile(network) if compiled else network

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main():
    torch.set_num_threads(threads)
    layout, _, compiled = peer.removeprefix("pytorch-").partition("+")
    step = stepper(layout, compiled == "compile")
    step()
    print(json.dumps({"peer": peer, "version": torch.__version__}), file=protocol, flush=True)
    for line in sys.stdin:
        seconds, times, begin = float(line), [], time.perf_counter()
        while not times or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start) * 1e3)
        times.sort()
        report = {"median_ms": times[len(times) // 2], "min_ms": times[0], "runs": len(times)}
        print(json.dumps(report | {"peak_rss_mb": peak_rss_mb()}), file=protocol, flush=True)


main()
