/**
 * Measures tactics of one kernel on this machine: an engine is made in which each tactic is a step over the same buffers, opened on
 * one thread, and profiled. Buffers hold random values; the least of several runs counts, since noise only adds.
 */
import { alignUp } from '../core/bytes.ts';
import { DTYPES, type TypedArray } from '../core/dtype.ts';
import { BUFFER_ALIGNMENT, type BufferRef, type Engine, type Step, type Tactic } from '../engine/engine.ts';
import type { Buffer } from '../loop/ir.ts';
import type { Target, Template } from '../targets/target.ts';
import type { TuningTask } from './choose.ts';

const MIN_RUNS = 3;

/** Nanoseconds of each tactic with one thread doing all tiles, in order. Spends about `budgetMs`, and at least three runs of each. */
export async function measureTactics(
  task: TuningTask,
  tactics: readonly Tactic[],
  target: Target,
  budgetMs: number,
): Promise<number[]> {
  const engine = engineOf(task, tactics, target);
  const open = await target.device.open(engine, { threads: 1, onWarning: () => {} });
  try {
    const context = open.createContext();
    context.inputs.forEach(randomize);
    const least = new Float64Array(tactics.length).fill(Number.POSITIVE_INFINITY);
    const ns = new Float64Array(tactics.length);
    let spent = 0;
    for (let run = 0; run < MIN_RUNS || spent < budgetMs * 1e6; run++) {
      ns.fill(0);
      context.profile(ns);
      for (const [i, time] of ns.entries()) {
        least[i] = Math.min(least[i], time);
        spent += time;
      }
    }
    return [...least];
  } finally {
    open.dispose();
  }
}

function engineOf({ kernel, facts }: TuningTask, tactics: readonly Tactic[], target: Target): Engine {
  let arenaBytes = 0;
  let weightBytes = 0;
  const packed: { readonly at: number; readonly data: TypedArray }[] = [];
  const arena = new Map(
    kernel.buffers.map((b): [string, BufferRef] => {
      const size = DTYPES[b.dtype].bytes;
      // One element aside is as unaligned as a part of a concatenation.
      const byteOffset = arenaBytes + (facts.unaligned?.has(b.name) ? size : 0);
      const ref: BufferRef = { space: 'arena', byteOffset, bytes: b.elements * size };
      arenaBytes = alignUp(byteOffset + ref.bytes, BUFFER_ALIGNMENT);
      return [b.name, ref];
    }),
  );
  const place = (data: TypedArray): BufferRef => {
    const ref: BufferRef = { space: 'weights', byteOffset: weightBytes, bytes: data.byteLength };
    packed.push({ at: weightBytes, data });
    weightBytes += alignUp(data.byteLength, BUFFER_ALIGNMENT);
    return ref;
  };
  const steps = tactics.map((tactic): Step => {
    const template = target.templates?.find((t) => t.name === tactic.template) as Template;
    const packings = template.packing?.(kernel, tactic.params);
    const refOf = (b: Buffer): BufferRef => {
      if (!facts.constant.has(b.name)) return arena.get(b.name) as BufferRef;
      const data = randomize(new DTYPES[b.dtype].array(b.elements));
      const packing = packings?.get(b.name);
      return place(packing && target.pack ? target.pack(data, kernel, b.name, packing) : data);
    };
    return {
      kernel: 0,
      tactic,
      buffers: kernel.buffers.map(refOf),
      values: kernel.buffers.map((b) => b.name),
      loc: [],
      tiles: template.tiles(kernel, tactic.params),
      maxThreads: 1,
      barrier: false,
      flops: 0,
      bytesMoved: 0,
    };
  });
  const bytes = new Uint8Array(weightBytes);
  for (const { at, data } of packed) bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
  const inputs = kernel.buffers.filter((b) => b.role === 'in' && !facts.constant.has(b.name));
  return {
    name: 'measure',
    target: target.name,
    builtBy: '',
    machine: [],
    precision: facts.tf32 ? 'tf32' : 'fp32',
    inputs: inputs.map((b) => ({
      name: b.name,
      dtype: b.dtype,
      shape: [b.elements],
      buffer: arena.get(b.name) as BufferRef,
    })),
    outputs: [],
    kernels: [kernel],
    steps,
    weights: [],
    weightBytes: bytes,
    arenaBytes,
    code: target.emit?.({ kernels: [kernel], steps }) ?? [],
  };
}

/** Floats between -1 and 1; zeros elsewhere, which are right as positions and counts. */
function randomize(data: TypedArray): TypedArray {
  if (!(data instanceof Float32Array || data instanceof Float64Array)) return data;
  let state = 0x2545f491;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    data[i] = state / 2 ** 31;
  }
  return data;
}
