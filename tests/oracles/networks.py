"""The other side of the checkpoint tests: torchvision's networks with seeded weights, and their answers.

Reads one JSON object a line and answers with one a line:
  {"arch", "size", "seed", "file", "legacy"?, "classes"?}  ->  {"input": {"shape", "data"}, "output": {"shape", "data"}}
The state dict goes to `file`; float32 data travel as base64. Weights keep activations near 1 in every
layer: a wrong one shows, and float32 itself errs by 1e-6 only, by hundreds of layers too.
"""
import base64
import json
import sys

import torch
import torchvision


def settle(net, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(1 + 0.5 * noise.abs())
            elif name.endswith("layer_scale"):
                value.copy_(0.3 + 0.1 * noise)
            elif value.dim() > 1:
                value.copy_(noise * (1 / value[0].numel()) ** 0.5)
            elif name.endswith("weight"):
                value.copy_(1 + 0.2 * noise)
            else:
                value.copy_(0.1 * noise)
    return net.eval()


def packed(tensor):
    return {"shape": list(tensor.shape), "data": base64.b64encode(tensor.contiguous().numpy().tobytes()).decode()}


torch.set_num_threads(1)
for line in sys.stdin:
    request = json.loads(line)
    arch, size = request["arch"], request["size"]
    sized = {"image_size": size} if arch.startswith("vit") else {}
    net = settle(getattr(torchvision.models, arch)(weights=None, num_classes=request.get("classes", 1000), **sized), request["seed"])
    torch.save(net.state_dict(), request["file"], _use_new_zipfile_serialization=not request.get("legacy", False))
    picture = torch.randn((1, 3, size, size), generator=torch.Generator().manual_seed(request["seed"] + 1))
    with torch.no_grad():
        answer = net(picture)
    print(json.dumps({"input": packed(picture), "output": packed(answer)}), flush=True)
