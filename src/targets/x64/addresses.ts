/**
 * Addresses base + index·scale + displacement, as operands of loads and stores where they may be, else computed by `lea`.
 *
 * A sum stands for its registers as long as they hold what they held and the code is in the loop where it was made: further inside a
 * loop, an instruction below the access may change a register before the access runs again. Products of indices are kept likewise.
 */
import type { Reg, RegType } from '../cpu/asm.ts';
import { type Builder, fitsInt32 } from './builder.ts';
import { imm, type Memory, mem, r32, r64 } from './encode.ts';

type Scale = 1 | 2 | 4 | 8;

interface Sum {
  readonly base: number;
  readonly index: number | undefined;
  readonly scale: Scale;
  readonly disp: number;
  /** Of base and index. */
  readonly versions: readonly [number, number];
  readonly loop: number;
}
interface Product {
  readonly register: number;
  readonly version: number;
  readonly loop: number;
}

export class Addresses {
  readonly #b: Builder;
  readonly #sums = new Map<number, Sum>();
  /** 64-bit products of an i32 register and a factor. */
  #products = new Map<string, Product>();
  readonly #counters = new Set<number>();

  constructor(builder: Builder) {
    this.#b = builder;
  }

  /** The register is a loop counter from `from`. From 0 or above its upper half is zero, so that it is an index as it is. */
  count(counter: Reg, from: Reg): void {
    const first = this.#b.known(from);
    if ((first !== undefined && first >= 0) || this.#counters.has(from.id)) this.#counters.add(counter.id);
  }

  /** What a branch computes is not known after it. */
  inBranch(emit: () => void): void {
    const before = this.#products;
    this.#products = new Map(before);
    emit();
    this.#products = before;
  }

  add(base: Reg, index: Reg, scale: number): Reg {
    const result = this.#b.reg('ptr');
    const origin = this.#b.use(base).n;
    const known = this.#b.known(index);
    if (known !== undefined && fitsInt32(Number(known) * scale)) {
      this.#define(result, origin, undefined, 1, Number(known) * scale);
    } else if (scale === 1 || scale === 2 || scale === 4 || scale === 8) {
      this.#define(result, origin, this.#product(index, 1), scale, 0);
    } else this.#define(result, origin, this.#product(index, scale), 1, 0);
    return result;
  }

  /** Emitted in any case: it is dropped as dead where all accesses took the sum into their own address. */
  #define(result: Reg, base: number, index: number | undefined, scale: Scale, disp: number): void {
    const { code } = this.#b;
    this.#b.emit('lea', this.#b.into(result), mem(base, disp, index, scale));
    const versions = [code.version(base), index === undefined ? 0 : code.version(index)] as const;
    this.#sums.set(result.id, { base, index, scale, disp, versions, loop: code.loop });
  }

  /** A 64-bit register with the sign-extended index times `factor`. */
  #product(index: Reg, factor: number): number {
    const b = this.#b;
    if (factor === 1 && (this.#counters.has(index.id) || index.type !== 'i32')) return b.use(index).n;
    if (b.known(index) !== undefined) return this.#multiplied(b.use(index).n, index.type, factor);
    const key = `${index.id} ${factor}`;
    const { loop } = b.code;
    const version = b.code.version(index.id);
    const made = this.#products.get(key);
    if (made?.version === version && made.loop === loop) return made.register;
    const register =
      factor === 1 ? this.#multiplied(index.id, 'i32', 1) : this.#multiplied(this.#product(index, 1), 'i64', factor);
    this.#products.set(key, { register, version, loop });
    return register;
  }

  #multiplied(index: number, type: RegType, factor: number): number {
    const product = this.#b.into(this.#b.reg('i64'));
    if (type === 'i32') this.#b.emit('movsxd', product, r32(index));
    if (factor !== 1) this.#b.emit('imul_i', product, type === 'i32' ? product : r64(index), imm(factor));
    return product.n;
  }

  /** The operand for base + byteOffset. */
  memory(base: Reg, byteOffset: number): Memory {
    const { code } = this.#b;
    const sum = this.#sums.get(base.id);
    if (sum && sum.loop === code.loop && code.version(base.id) === 1) {
      const { versions, index } = sum;
      const isCurrent =
        code.version(sum.base) === versions[0] && (index === undefined || code.version(index) === versions[1]);
      if (isCurrent) return mem(sum.base, sum.disp + byteOffset, index, sum.scale);
    }
    return mem(this.#b.use(base).n, byteOffset);
  }
}
