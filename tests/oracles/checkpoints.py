"""The other side of the checkpoint tests: files with all that a state dict may hold, and what is in them.

Argument: a folder, which gets zip.pth, legacy.pth, nested.pth and wrapped.pth. Prints {name: {"dtype", "shape", "data"}}, base64.
"""
import base64
import collections
import json
import sys

import torch

folder = sys.argv[1]
a = torch.arange(24.0).reshape(2, 3, 4) / 7
tensors = collections.OrderedDict(
    contiguous=a,
    permuted=a.permute(2, 0, 1),
    shared=a[1],
    strided=a[:, ::2, 1:3],
    expanded=torch.tensor([2.0, 3.0]).reshape(2, 1).expand(2, 5),
    f64=a.double(),
    f16=a.half(),
    bf16=a.bfloat16(),
    i64=(a * 1e12).long(),
    i32=(a * -9).int(),
    i16=(a * -9).short(),
    i8=(a * -9).char(),
    u8=(a * 9).byte(),
    bool=a > 1,
    empty=torch.zeros(0, 3),
    scalar=torch.tensor(5.5),
    parameter=torch.nn.Parameter(a.sum(0)),
)
tensors._metadata = {"": {"version": 1}}
torch.save(tensors, f"{folder}/zip.pth")
torch.save(tensors, f"{folder}/legacy.pth", _use_new_zipfile_serialization=False)
momentum = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0]}]}
torch.save({"epoch": 3, "optimizer": momentum, "model": dict(tensors), "best": 0.5, "name": "net", "done": None}, f"{folder}/nested.pth")
torch.save({"state_dict": {"module." + k: v for k, v in tensors.items()}}, f"{folder}/wrapped.pth")

NAMES = {torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "bool"}


def data(tensor):
    tensor = tensor.detach().contiguous()
    raw = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data": base64.b64encode(raw.numpy().tobytes()).decode()}


print(json.dumps({name: data(tensor) for name, tensor in tensors.items()}))
