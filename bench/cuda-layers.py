"""Times the rows that cuda-layers.mjs wrote, on a GPU, beside PyTorch's convolution: python3 bench/cuda-layers.py '[1,128]' work [seconds]

Each row is launched through the driver in a CUDA graph of many launches, overlapped as an engine's launches are, after its output was
held to PyTorch's float32 convolution of the same operands. Per layer: PyTorch, the best row, the row of least predicted time, microseconds.
"""
import ctypes
import glob
import json
import sys
import time

import torch
import torch.nn.functional as F

CLUSTER, OVERLAP = 4, 6
cuda = ctypes.CDLL('libcuda.so.1')


class Attribute(ctypes.Structure):
    _fields_ = [('id', ctypes.c_uint), ('pad', ctypes.c_uint), ('value', ctypes.c_uint * 16)]


class Config(ctypes.Structure):
    _fields_ = [('grid', ctypes.c_uint * 3), ('block', ctypes.c_uint * 3), ('shared', ctypes.c_uint), ('stream', ctypes.c_void_p),
                ('attributes', ctypes.POINTER(Attribute)), ('count', ctypes.c_uint)]


def check(result, what):
    if result:
        raise RuntimeError(f'{what}: CUDA error {result}')


def launch(function, row, pointers, stream, overlap):
    attributes = (Attribute * 2)()
    count = 0
    if row['cluster']:
        attributes[count].id = CLUSTER
        attributes[count].value[:3] = row['cluster']
        count += 1
    if overlap:
        attributes[count].id = OVERLAP
        attributes[count].value[0] = 1
        count += 1
    config = Config(stream=stream, shared=row['shared'], attributes=attributes, count=count)
    config.grid[:], config.block[:] = row['grid'], row['block']
    values = [ctypes.c_uint64(p) for p in pointers]
    params = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
    check(cuda.cuLaunchKernelEx(ctypes.byref(config), function, params, None), f'launch of {row["row"]}')


def graph_us(run, repeats, rounds=4):
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        run(stream)
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(repeats):
                run(stream)
    graph.replay()
    best = float('inf')
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        best = min(best, start.elapsed_time(end) * 1000 / repeats)
    return best


def measure(layer):
    batch, size, ic, oc, window, out = (layer[k] for k in ('batch', 'size', 'ic', 'oc', 'window', 'out'))
    seed = torch.Generator(device='cuda').manual_seed(1)
    random = lambda *shape: torch.randn(*shape, device='cuda', generator=seed)
    x = random(batch, size, size, ic).half().permute(0, 3, 1, 2)
    weight = (random(oc, ic, window, window) / (ic * window * window) ** 0.5).half()
    bias = random(oc).half()
    residual = random(batch, out, out, oc).half() if layer['residual'] else None
    packed = torch.zeros(oc, layer['pitch'], device='cuda', dtype=torch.half)
    packed[:, :layer['k']] = weight.permute(0, 2, 3, 1).reshape(oc, -1)
    source = x.contiguous() if layer['planes'] else x.permute(0, 2, 3, 1)
    want = F.conv2d(x.float(), weight.float(), bias.float(), layer['stride'], layer['pad']).permute(0, 2, 3, 1)
    want = (want if residual is None else want + residual.float()).relu()
    rms = want.pow(2).mean().sqrt().item()
    last = weight.contiguous(memory_format=torch.channels_last)
    peer = graph_us(lambda s: F.conv2d(x, last, bias, layer['stride'], layer['pad']), 8)
    y = torch.empty(batch, out, out, oc, device='cuda', dtype=torch.half)
    pointers = [t.data_ptr() for t in (source, packed, bias, residual, y) if t is not None]
    modules, times = {}, []
    for row in layer['list']:
        if row['file'] not in modules:
            module = ctypes.c_void_p()
            check(cuda.cuModuleLoadData(ctypes.byref(module), open(row['file'], 'rb').read()), row['file'])
            modules[row['file']] = module
        function = ctypes.c_void_p()
        check(cuda.cuModuleGetFunction(ctypes.byref(function), modules[row['file']], row['entry'].encode()), row['entry'])
        check(cuda.cuFuncSetAttribute(function, 8, row['shared']), 'shared memory')
        y.fill_(float('nan'))
        launch(function, row, pointers, torch.cuda.current_stream().cuda_stream, False)
        error = (y.float() - want).abs().max().item() / rms
        if not error < 2e-2:
            raise RuntimeError(f'{layer["name"]} by {row["row"]}: error {error} of the root mean square')
        times.append((graph_us(lambda s: launch(function, row, pointers, s.cuda_stream, True), 40 if batch == 1 else 8), row))
    return peer, times


torch.backends.cudnn.benchmark = True
torch.backends.cudnn.allow_tf32 = False
torch.zeros(1, device='cuda')
folder, limit = sys.argv[2], time.time() + float(sys.argv[3] if len(sys.argv) > 3 else 3600)
for batch in json.loads(sys.argv[1]):
    sums = [0, 0, 0]
    for file in sorted(glob.glob(f'{folder}/b{batch}_l*.json'), key=lambda f: int(f.split('_l')[1][:-5])):
        if time.time() > limit:
            break
        layer = json.load(open(file))
        peer, times = measure(layer)
        best, chosen = min(times, key=lambda t: t[0]), min(times, key=lambda t: t[1]['predictedNs'])
        row = ' '.join(f'{k}={v}' for k, v in best[1]['row'].items())
        print(f'{layer["name"]:9s} x{layer["count"]} torch {peer:8.2f} best {best[0]:8.2f} chosen {chosen[0]:8.2f} us  {row}', flush=True)
        sums = [s + t * layer['count'] for s, t in zip(sums, (peer, best[0], chosen[0]))]
    print(f'batch {batch}: torch {sums[0]:.0f}, best {sums[1]:.0f}, chosen {sums[2]:.0f} us')
