"""Outputs of LiteRT's reference kernels.

usage: litert.py MODEL.tflite INPUTS.bin OUTPUTS.bin

INPUTS.bin holds raw inputs of the model's type, one after the other; OUTPUTS.bin gets the raw outputs.
"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def main(model, inputs, outputs):
    interpreter = Interpreter(model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    into, out_of = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    pictures = np.fromfile(inputs, into["dtype"]).reshape(-1, *into["shape"])
    with open(outputs, "wb") as file:
        for picture in pictures:
            interpreter.set_tensor(into["index"], picture)
            interpreter.invoke()
            file.write(interpreter.get_tensor(out_of["index"]).tobytes())


main(*sys.argv[1:])
