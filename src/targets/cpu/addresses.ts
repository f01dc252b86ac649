/**
 * Addresses of elements: sums of linear terms, added in the order in which their axes were bound, so that every prefix of the sum
 * that an outer loop knows is computed there and shared. Constants become immediates where no prefix can fall below its buffer.
 */
import { DTYPES, type DType } from '../../core/dtype.ts';
import { Bug } from '../../core/errors.ts';
import type { Expr, Kernel } from '../../loop/ir.ts';
import type { Asm, Reg } from './asm.ts';
import { type ExprTable, isNonNegative, type Linear } from './linear.ts';
import type { Scopes } from './scopes.ts';

export interface Address {
  readonly base: Reg;
  readonly byteOffset: number;
}

export class Addresses {
  readonly #asm: Asm;
  readonly #table: ExprTable;
  readonly #scopes: Scopes;
  /** The register of an i32 expression. */
  readonly #value: (x: Expr) => Reg;
  readonly #buffers = new Map<string, { readonly ptr: Reg; readonly dtype: DType }>();

  constructor(asm: Asm, kernel: Kernel, table: ExprTable, scopes: Scopes, value: (x: Expr) => Reg) {
    this.#asm = asm;
    this.#table = table;
    this.#scopes = scopes;
    this.#value = value;
    kernel.buffers.forEach((b, i) => {
      this.#buffers.set(b.name, { ptr: asm.params[2 + i], dtype: b.dtype });
    });
  }

  buffer(name: string): { readonly ptr: Reg; readonly dtype: DType } {
    const buffer = this.#buffers.get(name);
    if (!buffer) throw new Bug('cpu-buffer', `buffer "${name}" is not one of the kernel's`);
    return buffer;
  }

  /** The address of buffer[index]; of lane 0's element where the index varies by lane. */
  of(name: string, index: Expr): Address {
    const bytes = this.#bytes(name);
    const { terms, constant } = this.#bindConstants(this.#table.linear(index));
    const immediate = isMonotone(terms) && constant >= 0 ? constant : 0;
    const base = this.#addressSum(name, terms, constant - immediate);
    return { base, byteOffset: (this.#laneOffset(terms) + immediate) * bytes };
  }

  /** buffer + constant + the terms, one after the other, each partial sum a cached register. */
  #addressSum(name: string, terms: Linear['terms'], constant: number): Reg {
    const bytes = this.#bytes(name);
    let base = constant === 0 ? this.buffer(name).ptr : this.#moved(name, constant * bytes);
    let key = `address ${name}+${constant}`;
    const ordered = this.#inBindingOrder(terms);
    for (let i = 0; i < ordered.length; i++) {
      const { atom, coef } = ordered[i];
      key += ` ${coef}*${this.#table.info(atom).id}${this.#atomVersions(atom)}`;
      const from = base;
      base = this.#scopes.cached(key, () => this.#asm.address(from, this.#atomRegister(atom), coef * bytes));
    }
    return base;
  }

  #bytes(name: string): number {
    return DTYPES[this.buffer(name).dtype].bytes;
  }

  #moved(name: string, bytes: number): Reg {
    const { ptr } = this.buffer(name);
    return this.#scopes.cached(`moved ${name} ${bytes}`, () =>
      this.#asm.address(ptr, this.#asm.const('i32', bytes), 1),
    );
  }

  /** Axes at known values go into the constant, and so do offsets of axes in registers. */
  #bindConstants(linear: Linear): Linear {
    let { constant } = linear;
    const terms = linear.terms.filter(({ atom, coef }) => {
      const binding = atom.kind === 'axis' ? this.#scopes.binding(atom.name) : undefined;
      if (binding?.kind === 'register') constant += coef * (binding.offset ?? 0);
      if (binding?.kind !== 'constant') return true;
      constant += coef * binding.value;
      return false;
    });
    return { terms, constant };
  }

  #laneOffset(terms: Linear['terms']): number {
    let offset = 0;
    for (let i = 0; i < terms.length; i++) {
      const { atom, coef } = terms[i];
      const binding = atom.kind === 'axis' ? this.#scopes.binding(atom.name) : undefined;
      if (binding?.kind === 'lanes') offset += coef * binding.offset;
    }
    return offset;
  }

  #atomRegister(atom: Expr): Reg {
    const binding = atom.kind === 'axis' ? this.#scopes.binding(atom.name) : undefined;
    if (binding?.kind === 'register') return binding.reg;
    return binding?.kind === 'lanes' ? binding.base : this.#value(atom);
  }

  /** As versionsOf, without an axis's offset: it goes into the immediate or the constant. */
  #atomVersions(atom: Expr): string {
    return atom.kind === 'axis' ? `,${this.#scopes.version(atom.name)}` : this.#scopes.versionsOf(atom);
  }

  /** Terms bound earliest first, so that sums of outer terms are shared by all that follows. */
  #inBindingOrder(terms: Linear['terms']): Linear['terms'] {
    if (terms.length < 2) return terms;
    const ordered = terms.slice();
    const ages = terms.map(({ atom }) => this.#age(atom));
    for (let i = 1; i < ordered.length; i++) {
      const term = ordered[i];
      const age = ages[i];
      let at = i;
      for (; at > 0 && ages[at - 1] > age; at--) {
        ordered[at] = ordered[at - 1];
        ages[at] = ages[at - 1];
      }
      ordered[at] = term;
      ages[at] = age;
    }
    return ordered;
  }

  #age(x: Expr): number {
    const { free } = this.#table.info(x);
    let newest = 0;
    for (let i = 0; i < free.length; i++) newest = Math.max(newest, this.#scopes.version(free[i]));
    return newest;
  }

  /** The part of an address that is known already. */
  prepare(name: string, index: Expr, changing: ReadonlySet<string>): void {
    const { terms, constant } = this.#bindConstants(this.#table.linear(index));
    const known = terms.filter(({ atom }) => !this.#table.dependsOn(atom, changing) && !this.#table.info(atom).guarded);
    if (known.some(({ atom }) => atom.kind !== 'axis' && this.#scopes.varies(atom))) return;
    this.#addressSum(name, known, isMonotone(terms) && constant >= 0 ? 0 : constant);
  }

  /** The step of a linear index from lane to lane; undefined where it is not the same between all lanes. */
  laneStride(index: Expr, axis: string): number | undefined {
    const { terms } = this.#table.linear(index);
    for (let i = 0; i < terms.length; i++) {
      const { atom } = terms[i];
      if (!(atom.kind === 'axis' && atom.name === axis) && this.#scopes.varies(atom)) return undefined;
    }
    return this.#table.strideAlong(index, axis);
  }
}

const isMonotone = (terms: Linear['terms']): boolean =>
  terms.every(({ atom, coef }) => coef > 0 && isNonNegative(atom));
