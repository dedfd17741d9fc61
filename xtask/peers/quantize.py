"""quantize.py DIR NETWORK BATCH: writes int8 networks of what export.py wrote, where they are missing.

NETWORK.calibration.bin   pictures that ranges are taken from, f32 NCHW: for everyone the same
NETWORK-bN.int8.onnx      static quantization by ONNX Runtime: 8 bits, weights per channel
NETWORK-bN.int8.mnn       the same of export.py's NETWORK-bN.mnn, by MNN's quantizer"""

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


def mnn_int8(source, target, pictures):
    # Its quantizer reads pictures: the same ones as bytes, three deviations wide.
    from PIL import Image

    work = target.with_suffix(".pictures")
    work.mkdir(exist_ok=True)
    for i, picture in enumerate(np.clip(pictures * 42.5 + 127.5, 0, 255).astype("u1")):
        Image.fromarray(picture.transpose(1, 2, 0)).save(work / f"{i}.png")
    how = {"format": "RGB", "mean": [127.5] * 3, "normal": [1 / 42.5] * 3}
    how |= {"width": pictures.shape[3], "height": pictures.shape[2], "path": f"{work}/"}
    how |= {"used_image_num": len(pictures), "feature_quantize_method": "KL", "weight_quantize_method": "MAX_ABS"}
    config = target.with_suffix(".json")
    config.write_text(json.dumps(how))
    # A process of its own: it aborts on some networks.
    call = "import sys, MNN, _tools; _tools.mnnquant(*sys.argv[1:])"
    subprocess.run([sys.executable, "-c", call, source, target, config], check=True, stdout=sys.stderr)
    shutil.rmtree(work)
    config.unlink()


def main():
    folder, name, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    pictures = calibration(folder, name)
    prefix = folder / f"{name}-b{batch}"
    steps = [
        (".int8.onnx", lambda target: onnx(Path(f"{prefix}.onnx"), target, pictures, batch)),
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
