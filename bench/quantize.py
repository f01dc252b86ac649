"""A model in f32 to one of int8 (QDQ, per channel), by onnxruntime's own quantiser: what bench/int8.mjs measures.

    python3 -m venv /tmp/ort && /tmp/ort/bin/pip install onnxruntime onnx
    /tmp/ort/bin/python bench/quantize.py MODEL.onnx OUT.onnx INPUT.f32 1x3x224x224 [u8|i8]

INPUT.f32 holds the elements of the model's only input; ranges of activations come from it and from four noisy copies. Activations are
u8 with a zero point unless said otherwise, weights i8 a channel.
"""
import sys
import numpy as np
import onnx
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static)

source, target, data, shape = sys.argv[1:5]
activation = QuantType.QInt8 if sys.argv[5:] == ['i8'] else QuantType.QUInt8
dims = [int(d) for d in shape.split('x')]
first = np.fromfile(data, dtype='<f4').reshape(dims)
noise = np.random.default_rng(1)
samples = [first] + [(first + 0.1 * noise.standard_normal(dims)).astype('f4') for _ in range(4)]


class Samples(CalibrationDataReader):
    def __init__(self, name):
        self.left = [{name: x} for x in samples]

    def get_next(self):
        return self.left.pop() if self.left else None


prepared = target + '.prepared.onnx'
quant_pre_process(source, prepared, skip_symbolic_shape=True)
model = onnx.load(prepared)
known = {x.name: x for x in model.graph.initializer}
# Biases that layers share come by an Identity each, and would stay floats, and their convolutions with them.
for node in [n for n in model.graph.node if n.op_type == 'Identity' and n.input[0] in known]:
    copy = model.graph.initializer.add()
    copy.CopyFrom(known[node.input[0]])
    copy.name = node.output[0]
    model.graph.node.remove(node)
onnx.save(model, prepared)
name = model.graph.input[0].name
quantize_static(prepared, target, Samples(name), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=activation, weight_type=QuantType.QInt8)
