"""Writes the node tests of the installed package `onnx` as Debian's libonnx-testdata has them: FOLDER/node/test_*/.

  python3 tests/oracles/onnx-node-tests.py FOLDER && ONNX_TESTDATA=FOLDER npx vitest run tests/conformance.test.ts
"""
import os
import sys
import warnings

warnings.simplefilter("ignore")
import onnx.backend.test.case.node as node
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.utils import import_recursive


def proto(value, info):
    if info.type.HasField("sequence_type"):
        return numpy_helper.from_list(value, info.name)
    if info.type.HasField("optional_type"):
        return numpy_helper.from_optional(value, info.name)
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(value, info.name)


import_recursive(node)
for case in node.collect_testcases(None):
    folder = os.path.join(sys.argv[1], "node", case.name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "model.onnx"), "wb") as file:
        file.write(case.model.SerializeToString())
    for i, (inputs, outputs) in enumerate(case.data_sets):
        data = os.path.join(folder, f"test_data_set_{i}")
        os.makedirs(data, exist_ok=True)
        for kind, values, infos in (
            ("input", inputs, case.model.graph.input),
            ("output", outputs, case.model.graph.output),
        ):
            for j, (value, info) in enumerate(zip(values, infos)):
                with open(os.path.join(data, f"{kind}_{j}.pb"), "wb") as file:
                    file.write(proto(value, info).SerializeToString())
