"""serve.py [--int8] DIR PEER NETWORK BATCH THREADS: one runtime that loads a network once and then times slices on demand.

Prints {"peer", "version", "error", "load_ms", "peak_rss_mb"} when ready (error: largest difference from PyTorch's logits,
relative to the largest logit; load_ms: until its first result, without importing its package). Then, for every line on
standard input, a number of seconds: runs for about that long and prints {"median_ms", "min_ms", "runs"}. Between lines it
is idle. Ends with its input."""

import importlib
import json
import os
import sys
import time
from pathlib import Path

int8 = "--int8" in sys.argv
sys.argv = [word for word in sys.argv if word != "--int8"]
folder, peer, name, batch, threads = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
# Whatever a runtime prints while it loads is not part of the protocol.
protocol = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import numpy as np

from process import peak_rss_mb

PACKAGES = {"pytorch": "torch", "pytorch-compile": "torch", "mnn": "MNN"}

# A runtime yields its version and a call that computes the logits, for every way it can go.


def onnxruntime(x, model):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    yield ort.__version__, lambda: session.run(None, {"x": x})[0]


def openvino(x, model):
    import openvino as ov

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    core = ov.Core()
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def run():
        request.infer()
        return request.get_output_tensor().data

    yield ov.__version__.split("-")[0], run


def pytorch(x, model, compiled=False):
    import torch

    from networks import build

    torch.set_num_threads(threads)
    network = build(name, torch.load(folder / f"{name}.pt")).to(memory_format=torch.channels_last)
    image = torch.from_numpy(x).to(memory_format=torch.channels_last)

    def runner(network):
        def run():
            with torch.no_grad():
                return network(image).numpy()

        return run

    if compiled:
        import torch._inductor.config as inductor

        inductor.freezing = True
        yield torch.__version__, runner(torch.compile(network))
        return
    yield torch.__version__, runner(network)
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, image)))
    yield torch.__version__, runner(frozen)


def pytorch_compile(x, model):
    yield from pytorch(x, model, compiled=True)


def ncnn(x, model):
    import ncnn

    network = ncnn.Net()
    options = network.opt
    options.num_threads, options.use_vulkan_compute = threads, False
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
    options.use_bf16_storage = False
    network.load_param(str(folder / f"{name}.ncnn.param"))
    network.load_model(str(folder / f"{name}.ncnn.bin"))

    def one(image):
        extractor = network.create_extractor()
        extractor.input("in0", ncnn.Mat(image))
        return np.array(extractor.extract("out0")[1])

    # It has no batch dimension.
    yield ncnn.__version__, lambda: np.stack([one(image) for image in x])


def mnn(x, model):
    import MNN

    network = MNN.Interpreter(model.replace(".onnx", ".mnn"))
    session = network.createSession({"numThread": threads, "backend": "CPU", "precision": "high"})
    image = MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe)

    def run():
        network.getSessionInput(session).copyFrom(image)
        network.runSession(session)
        output = network.getSessionOutput(session)
        shape, kind = output.getShape(), MNN.Tensor_DimensionType_Caffe
        host = MNN.Tensor(shape, MNN.Halide_Type_Float, np.zeros(shape, "f4"), kind)
        output.copyToHostTensor(host)
        return np.array(host.getNumpyData())

    import importlib.metadata

    yield importlib.metadata.version("mnn"), run


def slice_of(run, seconds):
    """Milliseconds of every run in about this many seconds, behind one that only warms the caches."""
    run()
    times, begin = [], time.perf_counter()
    while not times or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main():
    side = 32 if name.endswith("-cifar") else 224
    prefix = folder / f"{name}-b{batch}"
    x = np.fromfile(f"{prefix}.x.bin", "f4").reshape(batch, 3, side, side)
    want = np.fromfile(f"{prefix}.y.bin", "f4").reshape(batch, -1)
    peers = {f.__name__: f for f in (onnxruntime, openvino, pytorch, pytorch_compile, ncnn, mnn)}
    importlib.import_module(PACKAGES.get(peer, peer))
    kind = ".int8.onnx" if int8 else ".onnx"
    ways, errors, begin = [], [], time.perf_counter()
    for version, run in peers[peer.replace("-", "_")](x, f"{prefix}{kind}"):
        got = np.asarray(run(), dtype="f4").reshape(want.shape)
        if not ways:
            loaded = {"load_ms": (time.perf_counter() - begin) * 1e3, "peak_rss_mb": peak_rss_mb()}
        if not np.isfinite(got).all():
            sys.exit("logits that are not finite")
        ways.append(run)
        errors.append(float(np.abs(got - want).max() / np.abs(want).max()))
    ready = {"peer": peer, "version": version, "error": max(errors)}
    print(json.dumps(ready | loaded), file=protocol, flush=True)

    for line in sys.stdin:
        seconds = float(line)
        # Where a runtime can go more than one way, the first slice finds the faster one.
        if len(ways) > 1:
            ways = [min(ways, key=lambda run: np.median(slice_of(run, seconds)))]
        times = slice_of(ways[0], seconds)
        report = {"median_ms": float(np.median(times)), "min_ms": min(times), "runs": len(times)}
        print(json.dumps(report), file=protocol, flush=True)


main()
