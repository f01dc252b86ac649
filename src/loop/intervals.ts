/**
 * Which values an i32 expression may take: intervals of integers, from the extents of the axes.
 *
 * An interval never leaves out a value that occurs; where arithmetic could wrap, it is all of i32.
 * Divisions round toward minus infinity: floordiv(x, c) of [lo, hi] is [⌊lo/c⌋, ⌊hi/c⌋] for c > 0; mod is [0, c-1], or x itself
 * where x lies in it.
 */
import type { Axis, Expr } from './ir.ts';

export interface Interval {
  readonly lo: number;
  readonly hi: number;
}

const I32: Interval = { lo: -(2 ** 31), hi: 2 ** 31 - 1 };
const BOOL: Interval = { lo: 0, hi: 1 };

/** The values of each axis in scope, and the intervals found under them. */
export interface Facts {
  readonly axes: ReadonlyMap<string, Interval>;
  readonly done: Map<Expr, Interval>;
}

export const noFacts = (): Facts => ({ axes: new Map(), done: new Map() });

/** The facts inside loops over axes. */
export const within = (axes: readonly Axis[], facts: Facts): Facts => ({
  axes: new Map([
    ...facts.axes,
    ...axes.map((a): [string, Interval] => [a.name, { lo: 0, hi: Math.max(0, a.extent - 1) }]),
  ]),
  done: new Map(),
});

/** An interval of exact results; results beyond i32 wrap, so they could be anything. */
const exact = (...ends: readonly number[]): Interval => {
  const lo = Math.min(...ends);
  const hi = Math.max(...ends);
  return lo < I32.lo || hi > I32.hi || Number.isNaN(lo) ? I32 : { lo: lo + 0, hi: hi + 0 };
};

/** The interval of an i32 or bool expression; all of its type where nothing better is known. */
export function intervalOf(e: Expr, facts: Facts): Interval {
  if (e.dtype !== 'i32' && e.dtype !== 'bool') return I32;
  const before = facts.done.get(e);
  if (before) return before;
  const result = compute(e, facts);
  facts.done.set(e, result);
  return result;
}

function compute(e: Expr, facts: Facts): Interval {
  const all = e.dtype === 'bool' ? BOOL : I32;
  const of = (x: Expr): Interval => intervalOf(x, facts);
  switch (e.kind) {
    case 'const':
      return { lo: Number(e.value), hi: Number(e.value) };
    case 'axis':
      return facts.axes.get(e.name) ?? I32;
    case 'select': {
      const cond = of(e.cond);
      if (cond.lo === 1) return of(e.a);
      if (cond.hi === 0) return of(e.b);
      const a = of(e.a);
      const b = of(e.b);
      return { lo: Math.min(a.lo, b.lo), hi: Math.max(a.hi, b.hi) };
    }
    case 'unary': {
      const x = of(e.x);
      if (e.op === 'neg') return exact(-x.lo, -x.hi);
      if (e.op === 'not') return { lo: 1 - x.hi, hi: 1 - x.lo };
      return e.op === 'abs' && x.lo >= 0 ? x : all;
    }
    case 'cast': {
      const { lo, hi } = limitsOf(e.x, facts);
      return lo >= all.lo && hi <= all.hi ? { lo, hi } : all;
    }
    case 'binary':
      return e.a.dtype === 'i32' || e.a.dtype === 'bool' ? combine(e, of(e.a), of(e.b), all) : all;
    default:
      return all;
  }
}

/** The limits that min and max set to an integer of any width: gathers clamp positions before they are narrowed to indices. */
function limitsOf(e: Expr, facts: Facts): Interval {
  if (e.dtype === 'i32' || e.dtype === 'bool') return intervalOf(e, facts);
  if (e.kind === 'const' && e.dtype === 'i64') return { lo: Number(e.value), hi: Number(e.value) };
  if (e.kind !== 'binary' || e.dtype !== 'i64' || (e.op !== 'min' && e.op !== 'max')) {
    return { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY };
  }
  const a = limitsOf(e.a, facts);
  const b = limitsOf(e.b, facts);
  return { lo: Math[e.op](a.lo, b.lo), hi: Math[e.op](a.hi, b.hi) };
}

function combine(e: Extract<Expr, { kind: 'binary' }>, a: Interval, b: Interval, all: Interval): Interval {
  const decided = (yes: boolean, no: boolean): Interval => (yes ? { lo: 1, hi: 1 } : no ? { lo: 0, hi: 0 } : BOOL);
  switch (e.op) {
    case 'add':
      return exact(a.lo + b.lo, a.hi + b.hi);
    case 'sub':
      return exact(a.lo - b.hi, a.hi - b.lo);
    case 'mul':
      return exact(a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi);
    case 'floordiv':
      return b.lo === b.hi && b.lo > 0 ? exact(Math.floor(a.lo / b.lo), Math.floor(a.hi / b.lo)) : all;
    case 'div':
      return b.lo === b.hi && b.lo > 0 ? exact(Math.trunc(a.lo / b.lo), Math.trunc(a.hi / b.lo)) : all;
    case 'mod':
      if (b.lo < 1) return all;
      return a.lo >= 0 && a.hi < b.lo ? a : { lo: 0, hi: b.hi - 1 };
    case 'rem':
      if (b.lo < 1 || a.lo < 0) return all;
      return a.hi < b.lo ? a : { lo: 0, hi: b.hi - 1 };
    case 'min':
      return { lo: Math.min(a.lo, b.lo), hi: Math.min(a.hi, b.hi) };
    case 'max':
      return { lo: Math.max(a.lo, b.lo), hi: Math.max(a.hi, b.hi) };
    case 'lt':
      return decided(a.hi < b.lo, a.lo >= b.hi);
    case 'le':
      return decided(a.hi <= b.lo, a.lo > b.hi);
    case 'gt':
      return decided(a.lo > b.hi, a.hi <= b.lo);
    case 'ge':
      return decided(a.lo >= b.hi, a.hi < b.lo);
    case 'eq':
      return decided(a.lo === a.hi && b.lo === b.hi && a.lo === b.lo, a.hi < b.lo || b.hi < a.lo);
    case 'ne':
      return decided(a.hi < b.lo || b.hi < a.lo, a.lo === a.hi && b.lo === b.hi && a.lo === b.lo);
    case 'and':
      return { lo: a.lo & b.lo, hi: a.hi & b.hi };
    case 'or':
      return { lo: a.lo | b.lo, hi: a.hi | b.hi };
    default:
      return all;
  }
}
