/**
 * The sizes that only running tells, as kernels see them: a table of i32 words, each a formula over the graph's open sizes.
 *
 * Numbers that an operator's lowering gives at several sample sizes become formulas here: linear in one or two of the *atoms*, or a
 * product of two: the open sizes themselves, and the dims that inference gave the graph's values. A formula must hold at every
 * sample; there are more samples than a formula has unknowns, of odd and even sizes.
 */
import { addDims, bindDim, type Dim, mulDims, printDim, sym } from '../core/shape.ts';

/** The name of the table among a kernel's buffers. */
export const TABLE = 'sizes';

export type Sizes = ReadonlyMap<string, number>;

interface Atom {
  readonly dim: Dim;
  readonly values: readonly number[];
}

export class SizeTable {
  /** Sizes at which numbers are seen. */
  readonly samples: readonly Sizes[];
  /** The largest sizes. */
  readonly most: Sizes;
  readonly #atoms: readonly Atom[];
  readonly #slots = new Map<string, number>();
  readonly #formulas: Dim[] = [];
  /** Numbers that were looked for before. */
  readonly #fits = new Map<string, Dim | undefined>();

  /** `dims` are those of the graph's values. */
  constructor(samples: readonly Sizes[], most: Sizes, dims: Iterable<Dim>) {
    this.samples = samples;
    this.most = most;
    const names = [...most.keys()].sort();
    const plain = names.map((name) => sym(name));
    const atoms = new Map<string, Atom>();
    for (const dim of [...plain, ...dims]) {
      const values = samples.map((sizes) => bindDim(dim, sizes));
      if (!values.every((v) => typeof v === 'number') || typeof dim === 'number') continue;
      const key = values.join();
      if (new Set(values).size > 1 && !atoms.has(key)) atoms.set(key, { dim, values });
    }
    this.#atoms = [...atoms.values()];
  }

  /** The words of the table. */
  get formulas(): readonly Dim[] {
    return this.#formulas;
  }

  /** The number of the word that holds a formula. */
  slotOf(dim: Dim): number {
    const key = printDim(dim);
    const slot = this.#slots.get(key) ?? this.#formulas.push(dim) - 1;
    this.#slots.set(key, slot);
    return slot;
  }

  atMost(dim: Dim): number {
    return Number(bindDim(dim, this.most));
  }

  /** The formula of a whole number that has these values at the samples; undefined where there is none. */
  fit(values: readonly number[]): Dim | undefined {
    if (!values.every(Number.isSafeInteger)) return undefined;
    if (values.every((v) => v === values[0])) return values[0];
    const key = values.join();
    if (!this.#fits.has(key)) this.#fits.set(key, this.#find(values));
    return this.#fits.get(key);
  }

  #find(values: readonly number[]): Dim | undefined {
    const equal = this.#atoms.find((atom) => atom.values.every((x, i) => x === values[i]));
    if (equal) return equal.dim;
    for (const atom of this.#atoms) {
      const found = this.#linear(atom, values);
      if (found !== undefined) return found;
    }
    return this.#product(values) ?? this.#linearInTwo(values);
  }

  /** scale·atom·atom: how many elements some dims have together. */
  #product(values: readonly number[]): Dim | undefined {
    for (const [i, a] of this.#atoms.entries()) {
      for (const b of this.#atoms.slice(i)) {
        const scale = values[0] / (a.values[0] * b.values[0]);
        if (Number.isInteger(scale) && values.every((v, k) => v === scale * a.values[k] * b.values[k]))
          return mulDims(mulDims(a.dim, b.dim), scale);
      }
    }
    return undefined;
  }

  /** scale·atom + constant. */
  #linear({ dim, values: x }: Atom, values: readonly number[]): Dim | undefined {
    const other = x.findIndex((v) => v !== x[0]);
    const scale = (values[other] - values[0]) / (x[other] - x[0]);
    const constant = values[0] - scale * x[0];
    if (!Number.isInteger(scale) || !values.every((v, i) => v === scale * x[i] + constant)) return undefined;
    return addDims(mulDims(dim, scale), constant);
  }

  /** scale·atom + scale·atom + constant: each difference from the first sample is one equation. */
  #linearInTwo(values: readonly number[]): Dim | undefined {
    const dv = values.map((v) => v - values[0]);
    for (const [i, a] of this.#atoms.entries()) {
      const dx = a.values.map((x) => x - a.values[0]);
      const p = dx.findIndex((d) => d !== 0);
      for (const b of this.#atoms.slice(i + 1)) {
        const dy = b.values.map((y) => y - b.values[0]);
        const q = dy.findIndex((d, k) => dx[p] * d !== dx[k] * dy[p]);
        if (q < 0) continue;
        const determinant = dx[p] * dy[q] - dx[q] * dy[p];
        const scaleA = (dv[p] * dy[q] - dv[q] * dy[p]) / determinant;
        const scaleB = (dx[p] * dv[q] - dx[q] * dv[p]) / determinant;
        if (!Number.isInteger(scaleA) || !Number.isInteger(scaleB)) continue;
        if (!dv.every((d, k) => d === scaleA * dx[k] + scaleB * dy[k])) continue;
        const constant = values[0] - scaleA * a.values[0] - scaleB * b.values[0];
        return addDims(addDims(mulDims(a.dim, scaleA), mulDims(b.dim, scaleB)), constant);
      }
    }
    return undefined;
  }

  /** Two formulas whose quotient has these values at the samples: what float constants made of sizes are (means, scales). */
  fitRatio(values: readonly number[]): readonly [Dim, Dim] | undefined {
    const one: Atom = { dim: 1, values: values.map(() => 1) };
    for (const below of [one, ...this.#atoms]) {
      const above = values.map((v, i) => v * below.values[i]);
      const whole = above.map(Math.round);
      if (!above.every((v, i) => Math.abs(v - whole[i]) <= 1e-9 * Math.abs(v))) continue;
      const dim = this.fit(whole);
      if (dim !== undefined) return [dim, below.dim];
    }
    return undefined;
  }
}
