"""PyTorch as a peer of `hotrod bench` and `hotrod compare`: one process that answers one JSON line with one.

It loads a module, takes the inputs as files of raw elements, and times inferences itself: inputs go to the device and outputs come
back inside the time, and the device has finished before the clock is read. Run as: python3 torch-peer.py, then requests on stdin.
"""
import json
import sys
import time

try:
    import torch
except Exception as error:  # not installed, or broken
    print(json.dumps({"error": "missing", "message": str(error)}), flush=True)
    sys.exit(0)

DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
    "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
state = {}


def open_module(request):
    torch.manual_seed(0)
    spec, weights = request["module"], request.get("weights")
    torch.set_num_threads(request["threads"])
    if spec.endswith(".pt2"):
        module = torch.export.load(spec).module()
    elif spec.endswith((".pt", ".pth", ".ts")):
        module = torch.jit.load(spec, map_location="cpu").eval()
    else:
        import importlib
        place, _, name = spec.partition(":")
        module = getattr(importlib.import_module(place), name)().eval()
    if weights:
        module.load_state_dict(load_weights(weights))
    device = "cuda" if request["gpu"] and torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request["tf32"]
        torch.backends.cudnn.benchmark = True
    state.update(module=module.to(device), device=device)
    return {"version": torch.__version__, "device": device}


def load_weights(file):
    if file.endswith(".safetensors"):
        from safetensors.torch import load_file
        return load_file(file)
    return torch.load(file, map_location="cpu")


def set_inputs(request):
    inputs = []
    for given in request["inputs"]:
        with open(given["file"], "rb") as file:
            data = bytearray(file.read())
        tensor = torch.frombuffer(data, dtype=DTYPES[given["dtype"]]) if data else torch.empty(0, dtype=DTYPES[given["dtype"]])
        inputs.append(tensor.reshape(given["shape"]))
    if state["device"] == "cuda":
        inputs = [tensor.pin_memory() for tensor in inputs]
    state["inputs"] = inputs
    return {}


def run_once(request):
    device = state["device"]
    with torch.inference_mode():
        start = time.perf_counter()
        result = state["module"](*[tensor.to(device) for tensor in state["inputs"]])
        outputs = flatten(result)
        if device == "cuda":
            outputs = [tensor.cpu() for tensor in outputs]
            torch.cuda.synchronize()
        ms = (time.perf_counter() - start) * 1e3
    state["outputs"] = outputs
    return {"ms": ms}


def flatten(result):
    if isinstance(result, torch.Tensor):
        return [result]
    values = result.values() if hasattr(result, "values") else result
    return [tensor for value in values for tensor in flatten(value)]


def get_outputs(request):
    described = []
    for i, tensor in enumerate(state["outputs"]):
        tensor = tensor.detach().cpu().contiguous()
        file = f"{request['folder']}/out{i}"
        with open(file, "wb") as out:
            out.write(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
        described.append({"file": file, "dtype": NAMES[tensor.dtype], "shape": list(tensor.shape)})
    return {"outputs": described}


COMMANDS = {"open": open_module, "inputs": set_inputs, "run": run_once, "outputs": get_outputs}
print(json.dumps({"ready": torch.__version__}), flush=True)
for line in sys.stdin:
    try:
        request = json.loads(line)
        answer = COMMANDS[request["command"]](request)
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), flush=True)
