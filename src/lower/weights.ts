/**
 * The weights of an engine: each constant that a step reads, once for every arrangement that some tactic wants it in, one behind the
 * other at multiples of 64 bytes in the order in which steps first read them.
 */
import { DTYPES, type TypedArray } from '../core/dtype.ts';
import type { Tensor } from '../core/tensor.ts';
import type { BufferRef, Packing, Weight } from '../engine/engine.ts';
import type { Kernel } from '../loop/ir.ts';
import type { Target } from '../targets/target.ts';
import { alignUp } from './plan.ts';
import type { Block, Storage } from './storage.ts';

export class WeightStore {
  readonly #constants: ReadonlyMap<Block, Tensor>;
  readonly #pack: Target['pack'];
  readonly #entries = new Map<string, { weight: Weight; data: TypedArray }>();
  #bytes = 0;

  constructor(constants: ReadonlyMap<Block, Tensor>, pack: Target['pack']) {
    this.#constants = constants;
    this.#pack = pack;
  }

  /** Where a kernel's buffer finds its constant, arranged as `packing` says. */
  place(storage: Storage, kernel: Kernel, buffer: string, packing: Packing | undefined): BufferRef {
    const { block, offset } = storage;
    const tensor = this.#constants.get(block) as Tensor;
    if (!packing || !this.#pack) {
      const { weight } = this.#entry(String(block.id), block, undefined, () => tensor.data);
      const skipped = offset * DTYPES[tensor.dtype].bytes;
      return { space: 'weights', byteOffset: weight.byteOffset + skipped, bytes: weight.bytes - skipped };
    }
    const pack = this.#pack;
    const key = `${block.id}+${offset} ${JSON.stringify(packing)}`;
    const { weight } = this.#entry(key, block, packing, () => pack(tensor.data.subarray(offset), kernel, buffer, packing));
    return { space: 'weights', byteOffset: weight.byteOffset, bytes: weight.bytes };
  }

  get weights(): Weight[] {
    return [...this.#entries.values()].map((e) => e.weight);
  }

  /** All weights in one array. */
  bytes(): Uint8Array {
    const out = new Uint8Array(this.#bytes);
    for (const { weight, data } of this.#entries.values()) {
      out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), weight.byteOffset);
    }
    return out;
  }

  #entry(key: string, block: Block, packing: Packing | undefined, make: () => TypedArray): { weight: Weight; data: TypedArray } {
    const known = this.#entries.get(key);
    if (known) return known;
    const data = make();
    const { dtype, shape } = this.#constants.get(block) as Tensor;
    const weight: Weight = {
      name: block.name,
      dtype,
      shape,
      byteOffset: this.#bytes,
      bytes: data.byteLength,
      ...(packing && { packing }),
    };
    this.#bytes += alignUp(data.byteLength);
    const entry = { weight, data };
    this.#entries.set(key, entry);
    return entry;
  }
}
