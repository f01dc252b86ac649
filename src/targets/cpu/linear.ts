/**
 * Index expressions as linear forms: sum of coef·atom, plus constant, where an atom is an axis or anything that is not linear.
 *
 * Every Expr gets an identity by structure (equal subtrees share one number) and the set of names it depends on. The emitter caches
 * registers by the former and places code by the latter; address arithmetic is built from the linear form term by term, so that
 * what an outer loop knows is added there.
 */
import type { Expr } from '../../loop/ir.ts';
import { bufferKey, localKey } from './walk.ts';

type Names = readonly string[];

export interface ExprInfo {
  /** Equal for structurally equal expressions. */
  readonly id: number;
  /** Axes, locals (localKey) and buffers read (bufferKey), each once. Few: a list is gone through sooner than a set. */
  readonly free: Names;
  /** Reads memory at a place that varies: must not run where the program would not run it. */
  readonly guarded: boolean;
}

export interface Linear {
  readonly terms: readonly { readonly atom: Expr; readonly coef: number }[];
  readonly constant: number;
}

/** Facts about expressions, kept as long as one kernel is worked on. */
export class ExprTable {
  readonly #infos = new Map<Expr, ExprInfo>();
  readonly #linears = new Map<Expr, Linear>();
  readonly #ids = new Map<string, number>();
  readonly #unions = new Map<Names, Map<Names, Names>>();
  readonly #own = new Map<string, Names>();

  info(x: Expr): ExprInfo {
    const known = this.#infos.get(x);
    if (known) return known;
    const info = this.#infoOf(x);
    this.#infos.set(x, info);
    return info;
  }

  #infoOf(x: Expr): ExprInfo {
    switch (x.kind) {
      case 'const':
        return { id: this.#id(headOf(x)), free: NOTHING, guarded: false };
      case 'axis':
        return { id: this.#id(headOf(x)), free: this.#alone(x.name), guarded: false };
      case 'local':
        return { id: this.#id(headOf(x)), free: this.#alone(localKey(x.name)), guarded: false };
      case 'load': {
        const { id, free } = this.info(x.index);
        return {
          id: this.#id(`${headOf(x)},${id}`),
          free: this.#union(free, this.#alone(bufferKey(x.buffer))),
          guarded: x.index.kind !== 'const',
        };
      }
      case 'unary':
      case 'cast':
      case 'bitcast': {
        const { id, free, guarded } = this.info(x.x);
        return { id: this.#id(`${headOf(x)},${id}`), free, guarded };
      }
      case 'binary': {
        const a = this.info(x.a);
        const b = this.info(x.b);
        return {
          id: this.#id(`${headOf(x)},${a.id},${b.id}`),
          free: this.#union(a.free, b.free),
          guarded: a.guarded || b.guarded,
        };
      }
      case 'select': {
        const cond = this.info(x.cond);
        const a = this.info(x.a);
        const b = this.info(x.b);
        return {
          id: this.#id(`${headOf(x)},${cond.id},${a.id},${b.id}`),
          free: this.#union(cond.free, this.#union(a.free, b.free)),
          guarded: cond.guarded || a.guarded || b.guarded,
        };
      }
      default:
        return x satisfies never;
    }
  }

  #id(text: string): number {
    let id = this.#ids.get(text);
    if (id === undefined) {
      id = this.#ids.size;
      this.#ids.set(text, id);
    }
    return id;
  }

  #alone(name: string): Names {
    let names = this.#own.get(name);
    if (!names) {
      names = [name];
      this.#own.set(name, names);
    }
    return names;
  }

  /** Each union is made once: rows of a tile ask for the same ones again and again. */
  #union(a: Names, b: Names): Names {
    if (a === b || b.length === 0) return a;
    if (a.length === 0) return b;
    let ofA = this.#unions.get(a);
    if (!ofA) {
      ofA = new Map();
      this.#unions.set(a, ofA);
    }
    let out = ofA.get(b);
    if (!out) {
      out = union(a, b);
      ofA.set(b, out);
    }
    return out;
  }

  dependsOn(x: Expr, names: ReadonlySet<string>): boolean {
    const { free } = this.info(x);
    for (let i = 0; i < free.length; i++) if (names.has(free[i])) return true;
    return false;
  }

  /** The linear form of an i32 expression; always exists, in the worst case as one atom. */
  linear(x: Expr): Linear {
    const known = this.#linears.get(x);
    if (known) return known;
    const out = this.#linearOf(x);
    this.#linears.set(x, out);
    return out;
  }

  #linearOf(x: Expr): Linear {
    if (x.kind === 'const') return { terms: [], constant: Number(x.value) };
    if (x.kind === 'binary' && x.dtype === 'i32') {
      const a = this.linear(x.a);
      const b = this.linear(x.b);
      if (x.op === 'add') return this.#sum(a, b, 1);
      if (x.op === 'sub') return this.#sum(a, b, -1);
      if (x.op === 'mul' && b.terms.length === 0) return this.#sum({ terms: [], constant: 0 }, a, b.constant);
      if (x.op === 'mul' && a.terms.length === 0) return this.#sum({ terms: [], constant: 0 }, b, a.constant);
    }
    return { terms: [{ atom: x, coef: 1 }], constant: 0 };
  }

  #sum(a: Linear, b: Linear, scale: number): Linear {
    const terms = a.terms.slice();
    let isPlain = true;
    for (let i = 0; i < b.terms.length; i++) {
      const { atom } = b.terms[i];
      const scaled = b.terms[i].coef * scale;
      const id = this.info(atom).id;
      let at = 0;
      while (at < terms.length && terms[at].atom !== atom && this.info(terms[at].atom).id !== id) at++;
      const coef = at < terms.length ? terms[at].coef + scaled : scaled;
      terms[at] = { atom: at < terms.length ? terms[at].atom : atom, coef };
      if (coef === 0) isPlain = false;
    }
    return { terms: isPlain ? terms : terms.filter((t) => t.coef !== 0), constant: a.constant + b.constant * scale };
  }

  /**
   * How an index moves along an axis: the coefficient of the axis, 0 where the index does not depend on it, undefined where it does
   * in another way than linearly.
   */
  strideAlong(index: Expr, axis: string): number | undefined {
    let stride = 0;
    const { terms } = this.linear(index);
    for (let i = 0; i < terms.length; i++) {
      const { atom, coef } = terms[i];
      if (atom.kind === 'axis' && atom.name === axis) stride = coef;
      else if (this.info(atom).free.includes(axis)) return undefined;
    }
    return stride;
  }
}

const NOTHING: Names = [];

/** One of the two where it holds the other. */
function union(a: Names, b: Names): Names {
  const more = a.length >= b.length ? a : b;
  const less = more === a ? b : a;
  const added = less.filter((name) => !more.includes(name));
  return added.length === 0 ? more : [...more, ...added];
}

function headOf(x: Expr): string {
  switch (x.kind) {
    case 'const':
      return `${x.dtype}:${Object.is(x.value, -0) ? '-0' : x.value}`;
    case 'axis':
      return `axis ${x.name}`;
    case 'local':
      return `local ${x.name}`;
    case 'load':
      return `load ${x.buffer}`;
    case 'unary':
    case 'binary':
      return `${x.kind} ${x.op} ${x.dtype}`;
    case 'select':
    case 'cast':
    case 'bitcast':
      return `${x.kind} ${x.dtype}`;
    default:
      return x satisfies never;
  }
}

const nonNegative = new WeakMap<Expr, boolean>();

/** Certainly not negative: sums and products of axes and non-negative constants, quotients and remainders of such. */
export function isNonNegative(x: Expr): boolean {
  const known = nonNegative.get(x);
  if (known !== undefined) return known;
  const answer = findNonNegative(x);
  nonNegative.set(x, answer);
  return answer;
}

function findNonNegative(x: Expr): boolean {
  if (x.kind === 'axis') return true;
  if (x.kind === 'const') return Number(x.value) >= 0;
  if (x.kind !== 'binary') return false;
  switch (x.op) {
    case 'add':
    case 'mul':
    case 'floordiv':
    case 'div':
    case 'mod':
    case 'rem':
    case 'min':
      return isNonNegative(x.a) && isNonNegative(x.b);
    case 'max':
      return isNonNegative(x.a) || isNonNegative(x.b);
    default:
      return false;
  }
}
