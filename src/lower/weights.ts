/**
 * The weights of an engine: each constant that a step reads, once for every arrangement that some tactic wants it in, one behind the
 * other at multiples of 64 bytes in the order in which steps first read them.
 */
import { alignUp } from '../core/bytes.ts';
import { DTYPES, type TypedArray } from '../core/dtype.ts';
import type { Tensor } from '../core/tensor.ts';
import { BUFFER_ALIGNMENT, type BufferRef, type Packing, type Tactic, type Weight } from '../engine/engine.ts';
import type { Target } from '../targets/target.ts';
import type { LoweredGraph, LoweredStep } from './lower.ts';
import type { Block, Storage } from './storage.ts';

export interface PackedWeights {
  readonly weights: readonly Weight[];
  readonly bytes: Uint8Array;
  /** Where each step's constant operands lie, by step and operand number; undefined where an operand is no constant. */
  readonly refs: readonly (readonly (BufferRef | undefined)[])[];
}

/** Packs the constants of all steps as their tactics ask. */
export function packWeights(graph: LoweredGraph, tactics: readonly Tactic[], target: Target): PackedWeights {
  const store = new WeightStore(graph.constants);
  const refs = graph.steps.map((step, i) => stepRefs(step, tactics[i], target, store));
  return { weights: store.weights(), bytes: store.bytes(), refs };
}

function stepRefs(step: LoweredStep, tactic: Tactic, target: Target, store: WeightStore): (BufferRef | undefined)[] {
  const { kernel } = step;
  const packings = target.templates?.find((t) => t.name === tactic.template)?.packing?.(kernel, tactic.params);
  return step.operands.map(({ storage }, i) => {
    if (storage.block.space !== 'weights') return undefined;
    const { name } = kernel.buffers[i];
    const packing = packings?.get(name);
    if (!packing || !target.pack) return store.plain(storage);
    const { pack } = target;
    return store.packed(storage, packing, (data) => pack(data, kernel, name, packing));
  });
}

class WeightStore {
  readonly #constants: ReadonlyMap<Block, Tensor>;
  readonly #entries = new Map<string, { readonly weight: Weight; readonly data: TypedArray }>();
  #bytes = 0;

  constructor(constants: ReadonlyMap<Block, Tensor>) {
    this.#constants = constants;
  }

  /** A constant as it is, seen from the storage's offset on. */
  plain({ block, offset }: Storage): BufferRef {
    const { weight } = this.#entry(String(block.id), block, undefined, (data) => data);
    const skipped = offset * DTYPES[weight.dtype].bytes;
    return { space: 'weights', byteOffset: weight.byteOffset + skipped, bytes: weight.bytes - skipped };
  }

  packed({ block, offset }: Storage, packing: Packing, pack: (data: TypedArray) => TypedArray): BufferRef {
    const key = `${block.id}+${offset} ${JSON.stringify(packing)}`;
    const { weight } = this.#entry(key, block, packing, (data) => pack(data.subarray(offset)));
    return { space: 'weights', byteOffset: weight.byteOffset, bytes: weight.bytes };
  }

  weights(): Weight[] {
    return [...this.#entries.values()].map((e) => e.weight);
  }

  bytes(): Uint8Array {
    const out = new Uint8Array(this.#bytes);
    for (const { weight, data } of this.#entries.values()) {
      out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), weight.byteOffset);
    }
    return out;
  }

  #entry(
    key: string,
    block: Block,
    packing: Packing | undefined,
    make: (data: TypedArray) => TypedArray,
  ): { weight: Weight } {
    const known = this.#entries.get(key);
    if (known) return known;
    const { dtype, shape, data: rows } = this.#constants.get(block) as Tensor;
    const data = make(rows);
    const place = { byteOffset: this.#bytes, bytes: data.byteLength };
    const entry = { weight: { name: block.name, dtype, shape, ...place, ...(packing && { packing }) }, data };
    this.#bytes += alignUp(data.byteLength, BUFFER_ALIGNMENT);
    this.#entries.set(key, entry);
    return entry;
  }
}
