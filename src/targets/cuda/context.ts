/**
 * One use of an engine on a GPU: an arena of its own, pinned arrays for inputs and outputs, a stream, and the whole network as a graph.
 *
 * A run is one launch of the graph (copies in, kernels, copies out) and one wait; where a kernel can read or write the host's arrays as
 * well as a copy, there is no copy. For callers with streams of their own there is a graph of
 * the kernels alone. The arena serves one inference at a time, so work put into another stream waits for what is in the one before.
 */
import { alignUp } from '../../core/bytes.ts';
import { DTYPES, type TypedArray } from '../../core/dtype.ts';
import { ModelError } from '../../core/errors.ts';
import { elements } from '../../core/shape.ts';
import { Graph } from '../../cuda/graph.ts';
import { DeviceBuffer, PinnedBuffer } from '../../cuda/memory.ts';
import { Event, Stream } from '../../cuda/stream.ts';
import type { DeviceContext, DeviceMemory, DeviceStream, PhaseTimes } from '../../engine/device.ts';
import { type Binding, sizesBinding } from '../../engine/engine.ts';
import { now } from '../../host/clock.ts';
import { type DirectIo, NO_DIRECT_IO } from './direct-io.ts';
import type { Elsewhere, LoadedProgram, Memory, StepLaunch } from './loaded-program.ts';
import { profileSteps } from './profile.ts';

const ALIGNMENT = 256;
/** Inferences in flight when phases are timed: enough to keep the GPU busy. */
const IN_FLIGHT = 64;

export class CudaContext implements DeviceContext {
  readonly inputs: readonly TypedArray[];
  readonly keepsInputs = true;
  readonly outputs: readonly TypedArray[];
  readonly sizes?: Int32Array;
  readonly #loaded: LoadedProgram;
  readonly #onDispose: () => void;
  readonly #device: DeviceBuffer;
  readonly #host: PinnedBuffer;
  readonly #memory: Memory;
  readonly #stream: Stream;
  /** What was put into a stream last is done when this has happened. */
  readonly #idle: Event;
  readonly #launches: readonly StepLaunch[];
  readonly #whole: Graph;
  #kernels: Graph | undefined;
  #last: number | undefined;
  #isOpen = true;

  /** Throws ModelError `out-of-memory` or `device-lost`, with nothing left behind. `onDispose` is called once. */
  constructor(loaded: LoadedProgram, onDispose: () => void) {
    const { gpu, engine, program } = loaded;
    this.#loaded = loaded;
    this.#onDispose = onDispose;
    const made: { dispose(): void }[] = [];
    const keep = <T extends { dispose(): void }>(thing: T): T => {
      made.push(thing);
      return thing;
    };
    try {
      const arenaBytes = alignUp(engine.arenaBytes, ALIGNMENT);
      this.#device = keep(new DeviceBuffer(gpu, arenaBytes + program.scratchBytes));
      const table = sizesBinding(engine);
      const bindings = [...engine.inputs, ...engine.outputs, ...(table ? [table] : [])];
      this.#host = keep(new PinnedBuffer(gpu, hostBytes(bindings)));
      this.#stream = keep(new Stream(gpu));
      this.#idle = keep(new Event(gpu, { timed: false }));
      this.#memory = { arena: this.#device.address, scratch: this.#device.address + arenaBytes };
      const views = hostViews(bindings, this.#host);
      this.inputs = views.slice(0, engine.inputs.length);
      this.outputs = views.slice(engine.inputs.length, engine.inputs.length + engine.outputs.length);
      if (table) this.sizes = views[bindings.length - 1] as Int32Array;
      this.#launches = loaded.launches(this.#memory, true);
      this.#stream.fill(this.#device.address, 0, this.#device.byteLength);
      const direct = this.#host.isPinned ? loaded.direct : NO_DIRECT_IO;
      const launches = loaded.launches(this.#memory, true, this.#elsewhere(direct));
      this.#whole = keep(
        new Graph(this.#stream, () => {
          this.#copyIn(direct);
          for (const { launch } of launches) launch.enqueue(this.#stream);
          this.#copyOut(direct);
        }),
      );
      this.#whole.upload(this.#stream);
      this.#stream.synchronize();
    } catch (cause) {
      for (const thing of made.reverse()) thing.dispose();
      throw cause;
    }
  }

  get bytes(): number {
    return this.#device.byteLength;
  }

  execute(): void {
    this.#checkOpen();
    this.#follow(this.#stream);
    this.#whole.launch(this.#stream);
    this.#stream.synchronize();
  }

  enqueue(stream: DeviceStream, inputs: readonly DeviceMemory[], outputs: readonly (DeviceMemory | undefined)[]): void {
    this.#checkOpen();
    if (!(stream instanceof Stream) || stream.context.handle !== this.#loaded.gpu.handle)
      throw new ModelError('option-invalid', 'the stream is not one of the GPU that the engine is on', {
        hint: 'make it by new Stream(context) of hotrod/cuda, with a context of that GPU',
      });
    const { engine } = this.#loaded;
    this.#kernels ??= new Graph(this.#stream, () => this.#runKernels());
    this.#follow(stream);
    // Of memory that is not pinned: the words are taken before this returns, and may change then.
    this.#copySizes(stream, this.sizes?.slice());
    for (const [i, { buffer }] of engine.inputs.entries())
      stream.copy(this.#address(buffer), inputs[i].address, buffer.bytes);
    this.#kernels.launch(stream);
    for (const [i, { buffer }] of engine.outputs.entries()) {
      const to = outputs[i];
      if (to) stream.copy(to.address, this.#address(buffer), buffer.bytes);
    }
    this.#idle.record(stream);
    this.#last = stream.handle;
  }

  profile(ns: Float64Array): void {
    this.#checkOpen();
    this.#follow(this.#stream);
    this.#copyIn();
    // Without overlap, so that a step's time is its own.
    profileSteps(this.#stream, this.#loaded.launches(this.#memory, false), this.#loaded.engine.steps, ns);
  }

  phases(count: number): PhaseTimes {
    this.#checkOpen();
    this.#follow(this.#stream);
    const { gpu } = this.#loaded;
    this.#kernels ??= new Graph(this.#stream, () => this.#runKernels());
    const kernels = this.#kernels;
    const zeros = (): Float64Array => new Float64Array(count);
    const times = { enqueueNs: zeros(), h2dNs: zeros(), gpuNs: zeros(), d2hNs: zeros() };
    const marks = Array.from({ length: Math.min(count, IN_FLIGHT) }, () =>
      Array.from({ length: 4 }, () => new Event(gpu)),
    );
    for (let from = 0; from < count; from += IN_FLIGHT) {
      const batch = marks.slice(0, count - from);
      for (const [i, [start, copied, done, end]] of batch.entries()) {
        start.record(this.#stream);
        this.#copyIn();
        copied.record(this.#stream);
        const before = now();
        kernels.launch(this.#stream);
        times.enqueueNs[from + i] = now() - before;
        done.record(this.#stream);
        this.#copyOut();
        end.record(this.#stream);
      }
      this.#stream.synchronize();
      for (const [i, [start, copied, done, end]] of batch.entries()) {
        times.h2dNs[from + i] = copied.nsSince(start);
        times.gpuNs[from + i] = done.nsSince(copied);
        times.d2hNs[from + i] = end.nsSince(done);
      }
    }
    for (const event of marks.flat()) event.dispose();
    return times;
  }

  dispose(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const thing of [this.#kernels, this.#whole, this.#idle, this.#stream, this.#host, this.#device])
      thing?.dispose();
    this.#onDispose();
  }

  #checkOpen(): void {
    if (this.#isOpen) return;
    throw new ModelError('disposed', `a context of engine "${this.#loaded.engine.name}" was used after dispose`);
  }

  /** Lets the stream wait for what this context has in another. */
  #follow(stream: Stream): void {
    if (this.#last === undefined || this.#last === stream.handle) return;
    stream.waitFor(this.#idle);
    this.#last = undefined;
  }

  #address(buffer: Binding['buffer']): number {
    return this.#loaded.addressOf(buffer, this.#memory);
  }

  #elsewhere({ inputs, outputs }: DirectIo): readonly Elsewhere[] {
    const { address, bytes } = this.#host;
    const at = (array: TypedArray): number => address + array.byteOffset - bytes.byteOffset;
    const from = (uses: DirectIo['inputs'], arrays: readonly TypedArray[]): Elsewhere[] =>
      uses.flatMap((use, i) => (use ? [{ use, address: at(arrays[i]) }] : []));
    return [...from(inputs, this.inputs), ...from(outputs, this.outputs)];
  }

  #copySizes(stream: Stream, words: Int32Array | undefined): void {
    const { sizes } = this.#loaded.engine;
    if (sizes && words) stream.copyToDevice(this.#address(sizes.buffer), words);
  }

  #copyIn(direct: DirectIo = NO_DIRECT_IO): void {
    this.#copySizes(this.#stream, this.sizes);
    for (const [i, { buffer }] of this.#loaded.engine.inputs.entries())
      if (!direct.inputs[i]) this.#stream.copyToDevice(this.#address(buffer), this.inputs[i]);
  }

  #copyOut(direct: DirectIo = NO_DIRECT_IO): void {
    const { sizes } = this.#loaded.engine;
    if (this.sizes && sizes && sizes.data.length > 0) this.#stream.copyToHost(this.sizes, this.#address(sizes.buffer));
    for (const [i, { buffer }] of this.#loaded.engine.outputs.entries())
      if (!direct.outputs[i]) this.#stream.copyToHost(this.outputs[i], this.#address(buffer));
  }

  #runKernels(): void {
    for (const { launch } of this.#launches) launch.enqueue(this.#stream);
  }
}

const hostBytes = (bindings: readonly Binding[]): number =>
  bindings.reduce((sum, { buffer }) => sum + alignUp(buffer.bytes, ALIGNMENT), 0);

/** An array a binding, one behind the other. */
function hostViews(bindings: readonly Binding[], { bytes }: PinnedBuffer): TypedArray[] {
  let at = bytes.byteOffset;
  return bindings.map(({ dtype, shape, buffer }) => {
    const view = new DTYPES[dtype].array(bytes.buffer, at, elements(shape));
    at += alignUp(buffer.bytes, ALIGNMENT);
    return view;
  });
}
