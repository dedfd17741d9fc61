"""quantize.py DIR NETWORK BATCH: writes int8 networks of what export.py wrote, where they are missing.

NETWORK.calibration.bin   pictures that ranges are taken from, f32 NCHW: for everyone the same
NETWORK-bN.int8.onnx      static quantization by ONNX Runtime: 8 bits, weights per channel
NETWORK-bN.mnn            f32, and NETWORK-bN.int8.mnn, by MNN's converter and quantizer"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from networks import side

PICTURES = 32


def calibration(folder, name):
    path = folder / f"{name}.calibration.bin"
    shape = (PICTURES, 3, side(name), side(name))
    if not path.exists():
        np.random.default_rng(11).standard_normal(shape, dtype="f4").tofile(path)
    return np.fromfile(path, "f4").reshape(shape)


def onnx(source, target, pictures, batch):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            repeated = np.concatenate([pictures] * -(-batch // len(pictures)))
            self.batches = iter([repeated[i : i + batch] for i in range(0, len(repeated) - batch + 1, batch)])

        def get_next(self):
            return next(({"x": x} for x in self.batches), None)

    prepared = target.with_suffix(".prepared")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    how = dict(quant_format=QuantFormat.QDQ, per_channel=True)
    how |= dict(activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    quantize_static(str(prepared), str(target), Reader(), **how)
    prepared.unlink()


def tool(name, *arguments):
    program = Path(sys.executable).parent / name
    subprocess.run([program, *map(str, arguments)], check=True, stdout=sys.stderr)


def mnn(source, target):
    tool("mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "peers")


def mnn_int8(source, target, pictures):
    # Its quantizer reads inputs as text, a folder each.
    work = target.with_suffix(".inputs")
    for i, picture in enumerate(pictures):
        one = work / f"{i}"
        one.mkdir(parents=True, exist_ok=True)
        (one / "x.txt").write_text("\n".join(map(str, picture.ravel())))
        shape = {"name": "x", "shape": [1, *picture.shape]}
        (one / "input.json").write_text(json.dumps({"inputs": [shape], "outputs": ["y"]}))
    how = {"input_type": "sequence", "path": str(work), "used_sample_num": len(pictures), "batch_size": 1}
    how |= {"feature_quantize_method": "KL", "weight_quantize_method": "MAX_ABS", "quant_bits": 8}
    config = target.with_suffix(".json")
    config.write_text(json.dumps(how))
    tool("mnnquant", source, target, config)
    shutil.rmtree(work)


def main():
    folder, name, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    pictures = calibration(folder, name)
    prefix = folder / f"{name}-b{batch}"
    steps = [
        (".int8.onnx", lambda target: onnx(Path(f"{prefix}.onnx"), target, pictures, batch)),
        (".mnn", lambda target: mnn(Path(f"{prefix}.onnx"), target)),
        (".int8.mnn", lambda target: mnn_int8(Path(f"{prefix}.mnn"), target, pictures)),
    ]
    for suffix, make in steps:
        target, part = Path(f"{prefix}{suffix}"), Path(f"{prefix}.part{suffix}")
        if not target.exists():
            try:
                make(part)
                os.replace(part, target)
            except Exception as error:  # the runtime is skipped then, and says what it misses
                print(f"{target.name}: {error}", file=sys.stderr)


main()
