/**
 * Measures tactics on this machine: an engine is made in which each tactic is a step over buffers of its kernel, opened on one thread, and
 * profiled. Buffers hold random values; the least of several runs counts, since noise only adds.
 *
 * Kernels may share an engine, so that a target whose code takes long to compile compiles all of it at once. Steps then go by rounds, a
 * tactic of each kernel a round: no tactic finds its operands warmer than another.
 */
import { alignUp } from '../core/bytes.ts';
import { DTYPES, type TypedArray } from '../core/dtype.ts';
import {
  type Binding,
  BUFFER_ALIGNMENT,
  type BufferRef,
  type Engine,
  type Packing,
  type Step,
  type Tactic,
} from '../engine/engine.ts';
import type { Buffer, Kernel } from '../loop/ir.ts';
import type { Target, Template } from '../targets/target.ts';
import type { TuningTask } from './choose.ts';

export interface Measurement {
  readonly task: TuningTask;
  readonly tactics: readonly Tactic[];
}

const MIN_RUNS = 3;

/**
 * Nanoseconds of each tactic with one thread doing all tiles, for each measurement in order. Spends about `budgetMs` a measurement, and
 * at least three runs of each tactic. All must agree on tf32.
 */
export async function measureTactics(
  measurements: readonly Measurement[],
  target: Target,
  budgetMs: number,
): Promise<number[][]> {
  const { engine, places } = engineOf(measurements, target);
  const open = await target.device.open(engine, { threads: 1, apart: true, onWarning: () => {} });
  try {
    const context = open.createContext();
    context.inputs.forEach(randomize);
    const least = new Float64Array(engine.steps.length).fill(Number.POSITIVE_INFINITY);
    const ns = new Float64Array(engine.steps.length);
    let spent = 0;
    for (let run = 0; run < MIN_RUNS || spent < budgetMs * measurements.length * 1e6; run++) {
      ns.fill(0);
      context.profile(ns);
      for (const [i, time] of ns.entries()) {
        least[i] = Math.min(least[i], time);
        spent += time;
      }
    }
    return places.map((steps) => steps.map((step) => least[step]));
  } finally {
    open.dispose();
  }
}

/** Bytes of memory that a measurement takes beside its code, about. */
export const measuredBytes = ({ task, tactics }: Measurement): number =>
  task.kernel.buffers.reduce(
    (sum, b) => sum + b.elements * DTYPES[b.dtype].bytes * (task.facts.constant.has(b.name) ? tactics.length : 1),
    0,
  );

/** `places`: the steps of each measurement's tactics. */
function engineOf(
  measurements: readonly Measurement[],
  target: Target,
): { readonly engine: Engine; readonly places: readonly (readonly number[])[] } {
  const memory = new Memory();
  const stands = measurements.map(({ task }) => new Stand(task, target, memory));
  const rounds = Math.max(...measurements.map(({ tactics }) => tactics.length));
  const steps: Step[] = [];
  const places = measurements.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [m, { tactics }] of measurements.entries()) {
      if (round >= tactics.length) continue;
      places[m].push(steps.length);
      steps.push(stands[m].step(m, tactics[round]));
    }
  }
  const kernels = measurements.map(({ task }) => task.kernel);
  const engine: Engine = {
    name: 'measure',
    target: target.name,
    builtBy: '',
    machine: [],
    precision: measurements[0].task.facts.tf32 ? 'tf32' : 'fp32',
    inputs: stands.flatMap((stand, m) => stand.inputs(m)),
    outputs: [],
    kernels,
    steps,
    weights: [],
    weightBytes: memory.weightBytes(),
    arenaBytes: memory.arenaBytes,
    code: target.emit?.({ kernels, steps, arenaBytes: memory.arenaBytes }) ?? [],
  };
  return { engine, places };
}

/** What buffers of an engine under the hammer lie in. */
class Memory {
  arenaBytes = 0;
  #weightBytes = 0;
  readonly #weights: { readonly at: number; readonly data: TypedArray }[] = [];

  arena(bytes: number, skew: number): BufferRef {
    const byteOffset = this.arenaBytes + skew;
    this.arenaBytes = alignUp(byteOffset + bytes, BUFFER_ALIGNMENT);
    return { space: 'arena', byteOffset, bytes };
  }

  weight(data: TypedArray): BufferRef {
    const ref: BufferRef = { space: 'weights', byteOffset: this.#weightBytes, bytes: data.byteLength };
    this.#weights.push({ at: this.#weightBytes, data });
    this.#weightBytes += alignUp(data.byteLength, BUFFER_ALIGNMENT);
    return ref;
  }

  weightBytes(): Uint8Array {
    const bytes = new Uint8Array(this.#weightBytes);
    for (const { at, data } of this.#weights)
      bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    return bytes;
  }
}

/** A kernel's buffers: those in the arena once, constants once a packing. */
class Stand {
  readonly #kernel: Kernel;
  readonly #target: Target;
  readonly #memory: Memory;
  readonly #arena: ReadonlyMap<string, BufferRef>;
  readonly #constants = new Map<string, BufferRef>();

  constructor({ kernel, facts }: TuningTask, target: Target, memory: Memory) {
    this.#kernel = kernel;
    this.#target = target;
    this.#memory = memory;
    this.#arena = new Map(
      kernel.buffers
        .filter((b) => !facts.constant.has(b.name))
        .map((b) => {
          const size = DTYPES[b.dtype].bytes;
          // One element aside is as unaligned as a part of a concatenation.
          return [b.name, memory.arena(b.elements * size, facts.unaligned?.has(b.name) ? size : 0)];
        }),
    );
  }

  step(kernel: number, tactic: Tactic): Step {
    const template = this.#target.templates?.find((t) => t.name === tactic.template) as Template;
    const packings = template.packing?.(this.#kernel, tactic.params);
    return {
      kernel,
      tactic,
      buffers: this.#kernel.buffers.map((b) => this.#arena.get(b.name) ?? this.#constant(b, packings?.get(b.name))),
      values: this.#kernel.buffers.map((b) => b.name),
      loc: [],
      tiles: template.tiles(this.#kernel, tactic.params),
      maxThreads: 1,
      scratchBytes: template.scratchBytes?.(this.#kernel, tactic.params) ?? 0,
      barrier: false,
      flops: 0,
      bytesMoved: 0,
    };
  }

  inputs(m: number): Binding[] {
    return this.#kernel.buffers
      .filter((b) => b.role === 'in' && this.#arena.has(b.name))
      .map((b) => ({
        name: `${m} ${b.name}`,
        dtype: b.dtype,
        shape: [b.elements],
        buffer: this.#arena.get(b.name) as BufferRef,
      }));
  }

  #constant(b: Buffer, packing: Packing | undefined): BufferRef {
    const key = `${b.name} ${JSON.stringify(packing)}`;
    const known = this.#constants.get(key);
    if (known) return known;
    const data = randomize(new DTYPES[b.dtype].array(b.elements));
    const { pack } = this.#target;
    const made = this.#memory.weight(packing && pack ? pack(data, this.#kernel, b.name, packing) : data);
    this.#constants.set(key, made);
    return made;
  }
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
