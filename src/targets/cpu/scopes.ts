/**
 * What names mean at a place in the code, and which values are in registers there.
 *
 * Names (axes, locals, contents of buffers that the kernel writes) are bound with a version that grows at each binding. A register is
 * cached under a key that holds the versions of all it depends on, in the scope where its code stands; it is found from all inner
 * scopes and never after something it depends on has changed.
 */
import { Bug } from '../../core/errors.ts';
import type { Expr } from '../../loop/ir.ts';
import type { Reg } from './asm.ts';
import type { ExprTable } from './linear.ts';
import { isVector } from './vector-ops.ts';

export type Binding =
  /** An i32 axis, whose value is reg + offset (0 if not given), or a local of any type, vectors included. */
  | { readonly kind: 'register'; readonly reg: Reg; readonly offset?: number }
  /** An axis at a known value. */
  | { readonly kind: 'constant'; readonly value: number }
  /** An axis in the lanes: its value is base + offset + lane. */
  | { readonly kind: 'lanes'; readonly base: Reg; readonly offset: number };

export interface Bound {
  readonly binding: Binding;
  readonly version: number;
}

export class Scopes {
  readonly #table: ExprTable;
  readonly #bound = new Map<string, Bound>();
  /** Registers of all scopes that are open, and the keys of each scope. */
  readonly #registers = new Map<string, Reg>();
  #keys: string[] = [];
  #versions = 0;
  #lanesAxis: string | undefined;

  constructor(table: ExprTable) {
    this.#table = table;
  }

  bind(name: string, binding: Binding): void {
    this.#set(name, { binding, version: ++this.#versions });
  }

  #set(name: string, bound: Bound): void {
    this.#bound.set(name, bound);
    if (bound.binding.kind === 'lanes') this.#lanesAxis = name;
    else if (this.#lanesAxis === name) this.#lanesAxis = undefined;
  }

  binding(name: string): Binding | undefined {
    return this.#bound.get(name)?.binding;
  }

  /** The same axis register, `offset` further: what is cached for it stays valid where it does not depend on the offset. */
  shift(name: string, offset: number): void {
    const bound = this.#bound.get(name);
    if (!bound || bound.binding.kind === 'constant') throw new Bug('cpu-shift', `axis ${name} is in no register`);
    this.#set(name, { binding: { ...bound.binding, offset }, version: bound.version });
  }

  /** Forgets what is known of these names: they were assigned on a path that may not be taken, or by an iteration before. */
  touch(names: Iterable<string>): void {
    for (const name of names) {
      const bound = this.#bound.get(name);
      if (bound) this.#set(name, { binding: bound.binding, version: ++this.#versions });
      else if (name.startsWith('@')) this.bind(name, { kind: 'constant', value: 0 });
    }
  }

  /** Code inside `body` may run never or many times: registers cached there are not seen outside. */
  scope<T>(body: () => T): T {
    const outer = this.#keys;
    this.#keys = [];
    try {
      return body();
    } finally {
      for (let i = 0; i < this.#keys.length; i++) this.#registers.delete(this.#keys[i]);
      this.#keys = outer;
    }
  }

  /** True where the expression's value may differ between lanes. */
  varies(x: Expr): boolean {
    const { free } = this.#table.info(x);
    for (let i = 0; i < free.length; i++) {
      const binding = this.#bound.get(free[i])?.binding;
      if (binding?.kind === 'lanes' || (binding?.kind === 'register' && isVector(binding.reg))) return true;
    }
    return false;
  }

  /** The axis in the lanes, if there is one: never more. */
  lanesAxis(): string | undefined {
    return this.#lanesAxis;
  }

  /** The version of a name's binding; 0 where it has none. */
  version(name: string): number {
    return this.#bound.get(name)?.version ?? 0;
  }

  /** The register under a key: one that is known here, or the one that `compute` makes now. */
  cached(key: string, compute: () => Reg): Reg {
    const known = this.#registers.get(key);
    if (known) return known;
    const reg = compute();
    this.#registers.set(key, reg);
    this.#keys.push(key);
    return reg;
  }

  /** Distinguishes values of one expression under different bindings. */
  versionsOf(x: Expr): string {
    let out = '';
    const { free } = this.#table.info(x);
    for (let i = 0; i < free.length; i++) {
      const name = free[i];
      const bound = this.#bound.get(name);
      if (!bound) {
        if (name.startsWith('@')) continue;
        throw new Bug('cpu-unbound', `${name} is read where it has no value`);
      }
      out += `,${bound.version}`;
      const { binding } = bound;
      if (binding.kind !== 'constant' && binding.offset !== undefined) out += `+${binding.offset}`;
    }
    return out;
  }

  /** The bindings of these names, to be put back later: values of one copy of an unrolled body. */
  save(names: Iterable<string>): ReadonlyMap<string, Bound | undefined> {
    return new Map(Array.from(names, (name) => [name, this.#bound.get(name)]));
  }

  restore(saved: ReadonlyMap<string, Bound | undefined>): void {
    for (const [name, bound] of saved) {
      if (bound) this.#set(name, bound);
      else {
        this.#bound.delete(name);
        if (this.#lanesAxis === name) this.#lanesAxis = undefined;
      }
    }
  }
}
