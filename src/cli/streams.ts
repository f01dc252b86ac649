/**
 * Throughput of an engine with several inferences in flight: each has a context and a stream of its own over one set of weights, so that
 * the copies of one run beside the kernels of another.
 */
import type { Tensor } from '../core/tensor.ts';
import { Context } from '../cuda/context.ts';
import { openCuda } from '../cuda/cuda.ts';
import { listDevices } from '../cuda/device.ts';
import { PinnedBuffer } from '../cuda/memory.ts';
import { Stream } from '../cuda/stream.ts';
import { now } from '../host/clock.ts';
import type { ExecutionContext } from '../runtime/context.ts';
import type { RuntimeEngine } from '../runtime/load.ts';

export interface StreamReport {
  readonly streams: number;
  readonly iterations: number;
  /** Inferences a second, from host to host. */
  readonly throughput: number;
}

interface Lane {
  readonly context: ExecutionContext;
  readonly stream: Stream;
  readonly inputs: Readonly<Record<string, PinnedBuffer>>;
  readonly outputs: Readonly<Record<string, PinnedBuffer>>;
}

/** Throws ModelError `option-invalid` where the engine's target has no streams, `out-of-memory`. */
export async function measureStreams(
  engine: RuntimeEngine,
  feeds: ReadonlyMap<string, Tensor>,
  streams: number,
  durationMs: number,
): Promise<StreamReport> {
  const driver = await openCuda();
  const gpu = new Context(driver, listDevices(driver)[0]);
  const lanes: Lane[] = [];
  try {
    for (let i = 0; i < streams; i++) lanes.push(openLane(engine, gpu, feeds));
    for (const lane of lanes) start(lane);
    gpu.synchronize();
    const begin = now();
    let iterations = 0;
    for (; iterations < streams || now() - begin < durationMs * 1e6; iterations++) {
      const lane = lanes[iterations % streams];
      lane.stream.synchronize();
      start(lane);
    }
    gpu.synchronize();
    return { streams, iterations, throughput: (iterations * 1e9) / (now() - begin) };
  } finally {
    for (const { context } of lanes) context.dispose();
    gpu.dispose();
  }
}

const start = ({ context, stream, inputs, outputs }: Lane): void => context.enqueue(stream, inputs, outputs);

/** What is made in `gpu` goes with it. */
function openLane(engine: RuntimeEngine, gpu: Context, feeds: ReadonlyMap<string, Tensor>): Lane {
  const pinned = (data: ArrayBufferView): PinnedBuffer => {
    const buffer = new PinnedBuffer(gpu, data.byteLength);
    buffer.bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return buffer;
  };
  const context = engine.createContext();
  return {
    context,
    stream: new Stream(gpu),
    inputs: Object.fromEntries([...feeds].map(([name, { data }]) => [name, pinned(data)])),
    outputs: Object.fromEntries(engine.outputs.map(({ name }) => [name, pinned(context.outputArray(name))])),
  };
}
