"""export.py DIR NETWORK BATCH [--ncnn] [--mnn]: writes what the peers load, where it is missing.

NETWORK.pt              state dict
NETWORK-bN.x.bin        input, f32 NCHW, and NETWORK-bN.y.bin, PyTorch's logits for it
NETWORK-bN.onnx         the network for batches of N
NETWORK.ncnn.{param,bin}
NETWORK-bN.mnn          by MNN's converter"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from networks import BasicBlock, build, side


def finished(path):
    """Runs the body's writer on a temporary name, so that a file is whole or absent."""

    def write(writer):
        if not path.exists():
            temporary = path.with_name(path.name + ".tmp")
            writer(temporary)
            os.replace(temporary, path)

    return write


def onnx(network, x, path):
    try:
        options = dict(input_names=["x"], output_names=["y"], opset_version=17)
        # Batch norms stay: folding them is the runtime's business.
        kept = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(network, (x,), path, dynamo=False, do_constant_folding=True, training=kept, **options)
    except Exception as error:  # the older exporter may be gone
        print(f"older exporter: {error}; using the newer", file=sys.stderr)
        options["opset_version"] = 18
        torch.onnx.export(network, (x,), path, dynamo=True, optimize=False, external_data=False, **options)


def ncnn(network, name, folder):
    import pnnx

    BasicBlock.subsample_by_pooling = True
    work = folder / f"{name}.pnnx"
    work.mkdir(exist_ok=True)
    torch.jit.trace(network, torch.randn(1, 3, side(name), side(name))).save(work / "net.pt")
    program = getattr(pnnx, "EXEC_PATH", None) or shutil.which("pnnx")
    shape = f"inputshape=[1,3,{side(name)},{side(name)}]"
    subprocess.run([program, "net.pt", shape, "fp16=0"], cwd=work, check=True, stdout=subprocess.DEVNULL)
    for part in ("bin", "param"):
        os.replace(work / f"net.ncnn.{part}", folder / f"{name}.ncnn.{part}")
    shutil.rmtree(work)


def mnn(source, target):
    # The programs of its package would install others and report what they do; this is what they call.
    import MNN  # noqa: F401
    import _tools

    arguments = ["-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "peers"]
    _tools.mnnconvert(["mnnconvert", *map(str, arguments)])


def main():
    folder, name, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{name}.pt"
    finished(weights)(lambda path: torch.save(build(name).state_dict(), path))
    network = build(name, torch.load(weights))

    x = torch.randn(batch, 3, side(name), side(name), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        y = network(x)
    prefix = f"{name}-b{batch}"
    finished(folder / f"{prefix}.x.bin")(x.numpy().tofile)
    finished(folder / f"{prefix}.y.bin")(y.numpy().tofile)
    finished(folder / f"{prefix}.onnx")(lambda path: onnx(network, x, str(path)))
    if "--ncnn" in sys.argv and not (folder / f"{name}.ncnn.param").exists():
        ncnn(network, name, folder)
    if "--mnn" in sys.argv:
        finished(folder / f"{prefix}.mnn")(lambda path: mnn(folder / f"{prefix}.onnx", path))


main()
