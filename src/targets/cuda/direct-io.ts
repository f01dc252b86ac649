/**
 * Inputs and outputs that need no copy: a kernel reads an input once, or writes an output once, where it lies in pinned memory of the host.
 *
 * A copy costs about 8 µs beside its time on the bus, which for small batches is as much as several layers. It is left out where one step
 * alone uses the value and touches each element about once; what is read again and again is better copied.
 */
import type { BufferRef, Engine } from '../../engine/engine.ts';
import { accesses } from '../../loop/cost.ts';

/** Elements of an input may be read so many times, on average. */
const MOST_READS = 1.25;

/** The buffer of a step that takes the place of a copy. */
export interface DirectUse {
  readonly step: number;
  readonly ref: BufferRef;
}

export interface DirectIo {
  /** One an input; undefined where a copy is needed. */
  readonly inputs: readonly (DirectUse | undefined)[];
  /** One an output. */
  readonly outputs: readonly (DirectUse | undefined)[];
}

export const NO_DIRECT_IO: DirectIo = { inputs: [], outputs: [] };

interface Use extends DirectUse {
  readonly isOut: boolean;
  /** Loads or stores of an element, on average. */
  readonly touches: number;
}

export function directIo(engine: Engine): DirectIo {
  const uses = usesOf(engine);
  return {
    inputs: engine.inputs.map(({ buffer }) => directInput(engine, uses, buffer)),
    outputs: engine.outputs.map(({ buffer }) => directOutput(engine, uses, buffer)),
  };
}

function usesOf({ kernels, steps }: Engine): readonly Use[] {
  const counts = kernels.map(accesses);
  return steps.flatMap(({ kernel, buffers }, step) =>
    kernels[kernel].buffers.map(({ name, elements, role }, b) => ({
      step,
      ref: buffers[b],
      isOut: role === 'out',
      touches: (counts[kernel].get(name) ?? 0) / Math.max(1, elements),
    })),
  );
}

function directInput({ outputs }: Engine, uses: readonly Use[], buffer: BufferRef): DirectUse | undefined {
  const touching = uses.filter(({ ref }) => overlap(ref, buffer));
  // Whatever is written there ends the input's life. A step that reads and writes it may leave parts as they are.
  const end = touching.find(({ isOut }) => isOut)?.step ?? Number.POSITIVE_INFINITY;
  const isOutput = end === Number.POSITIVE_INFINITY && outputs.some((o) => overlap(o.buffer, buffer));
  const reads = touching.filter(({ isOut, step }) => !isOut && step <= end);
  if (isOutput || reads.length !== 1) return undefined;
  const [read] = reads;
  return read.step < end && same(read.ref, buffer) && read.touches <= MOST_READS ? read : undefined;
}

function directOutput({ outputs }: Engine, uses: readonly Use[], buffer: BufferRef): DirectUse | undefined {
  if (outputs.filter((o) => overlap(o.buffer, buffer)).length > 1) return undefined;
  const touching = uses.filter(({ ref }) => overlap(ref, buffer));
  const last = touching.findLast(({ isOut }) => isOut);
  // Written whole and once by the last that writes there, and read by none: neither after, nor in that step.
  const isRead = touching.some(({ isOut, step }) => !isOut && last !== undefined && step >= last.step);
  return last && !isRead && same(last.ref, buffer) && last.touches === 1 ? last : undefined;
}

const overlap = (x: BufferRef, y: BufferRef): boolean =>
  x.space === y.space && x.byteOffset < y.byteOffset + y.bytes && y.byteOffset < x.byteOffset + x.bytes;

const same = (x: BufferRef, y: BufferRef): boolean =>
  x.space === y.space && x.byteOffset === y.byteOffset && x.bytes === y.bytes;
