/**
 * Makes a kernel safe to run as machine code: every load and store of the result is inside its buffer, whatever the buffers hold.
 *
 * In comes a kernel without faults (verify.ts). An index stays as it is where it is proved to be inside; any other index x of a
 * buffer of n elements becomes min(max(x, 0), n - 1), which changes nothing where the kernel kept its own rules. Proofs take linear
 * forms of atoms with known intervals, and what is known under the conditions around an access, e.g. for a padded window
 *
 *     0 <= 2i + k - 1 < H and 0 <= 2j + l - 1 < W   make   (2i + k - 1)·W + (2j + l - 1)   a number in [0, H·W)
 *
 * Where an index is x plus a form of axes that a reduction runs over whatever happens, all of x + form is inside or the kernel broke its
 * rules: then x alone is clamped, so that neighbours stay neighbours.
 *
 * A form that could leave i32 on the way, in elements or as an offset in bytes, proves nothing: machines differ in where they wrap.
 */
import { DTYPES } from '../core/dtype.ts';
import { attendOfBody } from './attend.ts';
import {
  add,
  children,
  conditionOf,
  constant,
  index,
  isConst,
  load,
  mapChildren,
  mapCondition,
  max,
  min,
  mul,
} from './expr.ts';
import { type Facts, intervalOf, noFacts, within } from './intervals.ts';
import type { Axis, BinaryOp, Buffer, Expr, Kernel, Stmt } from './ir.ts';
import { Structure } from './structure.ts';

/** The kernel itself where all is proved. Undefined where an operand of a contract or an attend is not: what reads it cannot change. */
export function clampIndices(kernel: Kernel): Kernel | undefined {
  const clamper = new Clamper(kernel);
  const scope = scopeOf(within(kernel.axes, noFacts()), [], []);
  const body = clamper.body(kernel.body, scope);
  if (!clamper.changed) return kernel;
  const { form } = kernel;
  if (form.kind === 'attend') {
    const clamped = attendOfBody(form, kernel.body, body);
    return clamped && { ...kernel, form: clamped, body };
  }
  if (form.kind !== 'contract') return { ...kernel, body };
  if (body[0] !== kernel.body[0]) return undefined;
  return { ...kernel, form: { ...form, epilogue: body.slice(1) }, body };
}

/** A comparison that holds: the linear form is at most 0. */
interface Scope {
  readonly facts: Facts;
  readonly known: readonly Linear[];
  /** Axes at all of whose points what stands here is computed. */
  readonly swept: readonly Axis[];
  /** Expressions by structure that are computed there, and where: in branches too they are what they are outside. */
  readonly certain?: { readonly scope: Scope; readonly ids: ReadonlySet<number> };
  readonly memo: Map<Expr, Expr>;
  /** Scopes of the branches of conditions, so that one condition makes one scope. */
  readonly branches: Map<Expr, readonly [Scope, Scope]>;
}

interface Linear {
  /** By structure number of the atom. */
  readonly terms: ReadonlyMap<number, { readonly atom: Expr; readonly coef: number }>;
  readonly constant: number;
}

/** A form without constant, and the interval it is in. */
interface Window {
  readonly form: Linear;
  readonly lo: number;
  readonly hi: number;
}

/** Conditions in scope that a proof looks at: it tries their orders. */
const MAX_WINDOWS = 6;
/** Scopes made for conditions before others are left out of sight: shared expressions under many conditions would make very many. */
const MAX_SCOPES = 5000;
const LIMIT = 2 ** 31;

class Clamper {
  changed = false;
  readonly #buffers: ReadonlyMap<string, Buffer>;
  readonly #structure = new Structure();
  #scopes = 0;

  constructor(kernel: Kernel) {
    this.#buffers = new Map(kernel.buffers.map((b) => [b.name, b]));
  }

  /** The statements themselves where nothing in them changed. */
  body(stmts: readonly Stmt[], scope: Scope): readonly Stmt[] {
    const out = stmts.flatMap((s) => this.#stmt(s, scope) ?? []);
    return out.length === stmts.length && out.every((s, i) => s === stmts[i]) ? stmts : out;
  }

  /** Undefined: the statement stores to a buffer without elements, which can never happen. */
  #stmt(s: Stmt, scope: Scope): Stmt | undefined {
    switch (s.kind) {
      case 'for':
      case 'scan': {
        const inner = inside(scope, [s.axis]);
        const loop = mapCondition(s, (x) => this.#expr(x, inner));
        const body = this.body(s.body, inner);
        return body === s.body && conditionOf(loop) === conditionOf(s) ? s : { ...loop, body };
      }
      case 'if': {
        const cond = this.#expr(s.cond, scope);
        const body = this.body(s.body, this.#branches(s.cond, scope)[0]);
        return cond === s.cond && body === s.body ? s : { ...s, cond, body };
      }
      case 'reduce': {
        const value = this.#expr(s.value, this.#sweeping(scope, s.axes, s.value));
        return value === s.value ? s : { ...s, value };
      }
      case 'let': {
        const value = this.#expr(s.value, scope);
        return value === s.value ? s : { ...s, value };
      }
      case 'store': {
        const buffer = this.#buffers.get(s.buffer) as Buffer;
        if (buffer.elements === 0) {
          this.changed = true;
          return undefined;
        }
        const value = this.#expr(s.value, scope);
        const at = this.#index(s.index, buffer, scope);
        return value === s.value && at === s.index ? s : { ...s, index: at, value };
      }
      default:
        return s satisfies never;
    }
  }

  #expr(e: Expr, scope: Scope): Expr {
    const { certain } = scope;
    if (certain && certain.scope !== scope && certain.ids.has(this.#structure.id(e)))
      return this.#expr(e, certain.scope);
    const known = scope.memo.get(e);
    if (known) return known;
    const out = this.#rewrite(e, scope);
    scope.memo.set(e, out);
    return out;
  }

  /** The scope of what a reduction folds over axes. */
  #sweeping(outer: Scope, axes: readonly Axis[], value: Expr): Scope {
    const swept = axes.filter((axis) => !axis.limit);
    if (swept.length === 0) return inside(outer, axes);
    const ids = new Set<number>();
    const visit = (x: Expr): void => {
      const id = this.#structure.id(x);
      if (ids.has(id)) return;
      ids.add(id);
      if (x.kind === 'select') visit(x.cond);
      else children(x).forEach(visit);
    };
    visit(value);
    const scope: { -readonly [K in keyof Scope]: Scope[K] } = { ...inside(outer, axes), swept };
    scope.certain = { scope, ids };
    return scope;
  }

  #rewrite(e: Expr, scope: Scope): Expr {
    if (e.kind === 'load') {
      const buffer = this.#buffers.get(e.buffer) as Buffer;
      if (buffer.elements === 0) {
        this.changed = true;
        return constant(e.dtype, 0);
      }
      const at = this.#index(e.index, buffer, scope);
      return at === e.index ? e : load(e.buffer, e.dtype, at);
    }
    if (e.kind !== 'select') return mapChildren(e, (child) => this.#expr(child, scope));
    const [yes, no] = this.#branches(e.cond, scope);
    const cond = this.#expr(e.cond, scope);
    const a = this.#expr(e.a, yes);
    const b = this.#expr(e.b, no);
    return cond === e.cond && a === e.a && b === e.b ? e : { ...e, cond, a, b };
  }

  #index(at: Expr, buffer: Buffer, scope: Scope): Expr {
    const safe = this.#expr(at, scope);
    if (safe === at && this.#isInside(at, buffer, scope)) return at;
    this.changed = true;
    return this.#clampedBefore(safe, buffer, scope) ?? min(max(safe, index(0)), index(buffer.elements - 1));
  }

  /** x + form, x clamped so that the form's least and greatest are inside. */
  #clampedBefore(at: Expr, { elements }: Buffer, { swept }: Scope): Expr | undefined {
    const { terms, constant: c } = this.#linear(at);
    const extents = new Map(swept.map(({ name, extent }) => [name, extent]));
    let x: Expr = index(c);
    let form: Expr = index(0);
    let [lo, hi] = [0, 0];
    for (const { atom, coef } of terms.values()) {
      const extent = atom.kind === 'axis' ? extents.get(atom.name) : undefined;
      if (extent === undefined) {
        if (mentions(atom, extents)) return undefined;
        x = add(x, mul(atom, index(coef)));
        continue;
      }
      form = add(form, mul(atom, index(coef)));
      if (coef > 0) hi += coef * (extent - 1);
      else lo += coef * (extent - 1);
    }
    if (isConst(form) || hi - lo >= elements) return undefined;
    return add(min(max(x, index(-lo)), index(elements - 1 - hi)), form);
  }

  #isInside(at: Expr, { elements, dtype }: Buffer, scope: Scope): boolean {
    const form = this.#linear(at);
    if (!this.#staysInI32(form, scope, DTYPES[dtype].bytes)) return false;
    const whole = this.#range(form, scope);
    if (whole.lo >= 0 && whole.hi < elements) return true;
    const windows = this.#windows(scope);
    return this.#upper(form, windows, scope) < elements && this.#upper(scaled(form, -1), windows, scope) <= 0;
  }

  /** The scopes where the condition holds and where it does not. */
  #branches(cond: Expr, scope: Scope): readonly [Scope, Scope] {
    const made = scope.branches.get(cond);
    if (made) return made;
    const scopes = [true, false].map((holds): Scope => {
      const learnt = this.#scopes < MAX_SCOPES ? this.#learn(cond, holds, scope) : [];
      if (learnt.length === 0 && scope.swept.length === 0) return scope;
      this.#scopes++;
      return {
        ...scopeOf(scope.facts, [...scope.known, ...learnt], []),
        ...(scope.certain && { certain: scope.certain }),
      };
    }) as [Scope, Scope];
    scope.branches.set(cond, scopes);
    return scopes;
  }

  /** What a condition says about i32 expressions where it holds, or where it does not. */
  #learn(cond: Expr, holds: boolean, scope: Scope): Linear[] {
    if (cond.kind === 'unary' && cond.op === 'not') return this.#learn(cond.x, !holds, scope);
    if (cond.kind !== 'binary') return [];
    const { op, a, b } = cond;
    if (op === (holds ? 'and' : 'or')) return [...this.#learn(a, holds, scope), ...this.#learn(b, holds, scope)];
    const relation = holds ? op : NEGATED[op];
    if (a.dtype !== 'i32' || relation === undefined) return [];
    const x = this.#linear(a);
    const y = this.#linear(b);
    if (!this.#staysInI32(x, scope) || !this.#staysInI32(y, scope)) return [];
    const atMost = (p: Linear, q: Linear, by: number): Linear =>
      sum(sum(p, q, -1), { terms: new Map(), constant: by }, 1);
    switch (relation) {
      case 'lt':
        return [atMost(x, y, 1)];
      case 'le':
        return [atMost(x, y, 0)];
      case 'gt':
        return [atMost(y, x, 1)];
      case 'ge':
        return [atMost(y, x, 0)];
      case 'eq':
        return [atMost(x, y, 0), atMost(y, x, 0)];
      default:
        return [];
    }
  }

  /** What is known, a window a form; forms that differ by sign are one. */
  #windows(scope: Scope): Window[] {
    const windows: Window[] = [];
    for (const { terms, constant: c } of scope.known) {
      if (terms.size === 0) continue;
      const form: Linear = { terms, constant: 0 };
      const at = windows.findIndex((w) => sameTerms(w.form, form, 1) || sameTerms(w.form, form, -1));
      const before = windows[at] ?? { form, ...this.#range(form, scope) };
      // Σ + c <= 0: Σ is at most -c; of the negated form at least c.
      const after = sameTerms(before.form, form, 1)
        ? { ...before, hi: Math.min(before.hi, -c) }
        : { ...before, lo: Math.max(before.lo, c) };
      if (at >= 0) windows[at] = after;
      else windows.push(after);
    }
    return windows.slice(-MAX_WINDOWS);
  }

  /** A number that the form does not exceed: λ windows taken out of it one after the other, then the interval of what is left. */
  #upper(form: Linear, windows: readonly Window[], scope: Scope): number {
    let best = this.#range(form, scope).hi;
    for (const window of windows) {
      for (const [id, { coef }] of window.form.terms) {
        const factor = (form.terms.get(id)?.coef ?? 0) / coef;
        if (factor === 0 || !Number.isInteger(factor)) continue;
        const rest = sum(form, window.form, -factor);
        const taken = factor * (factor > 0 ? window.hi : window.lo);
        const others = windows.filter((w) => w !== window);
        best = Math.min(best, taken + this.#upper(rest, others, scope));
        break;
      }
    }
    return best;
  }

  #range({ terms, constant: c }: Linear, scope: Scope): { lo: number; hi: number } {
    let lo = c;
    let hi = c;
    for (const { atom, coef } of terms.values()) {
      const x = intervalOf(atom, scope.facts);
      lo += coef * (coef > 0 ? x.lo : x.hi);
      hi += coef * (coef > 0 ? x.hi : x.lo);
    }
    return { lo, hi };
  }

  /** True where no order of adding the terms, each `unit` times, leaves i32. */
  #staysInI32({ terms, constant: c }: Linear, scope: Scope, unit = 1): boolean {
    let most = Math.abs(c);
    for (const { atom, coef } of terms.values()) {
      const { lo, hi } = intervalOf(atom, scope.facts);
      most += Math.abs(coef) * Math.max(Math.abs(lo), Math.abs(hi));
    }
    return most * unit < LIMIT;
  }

  #linear(e: Expr): Linear {
    if (isConst(e)) return { terms: new Map(), constant: Number(e.value) };
    if (e.kind === 'binary' && (e.op === 'add' || e.op === 'sub'))
      return sum(this.#linear(e.a), this.#linear(e.b), e.op === 'add' ? 1 : -1);
    if (e.kind === 'binary' && e.op === 'mul') {
      if (isConst(e.b)) return scaled(this.#linear(e.a), Number(e.b.value));
      if (isConst(e.a)) return scaled(this.#linear(e.b), Number(e.a.value));
    }
    return { terms: new Map([[this.#structure.id(e), { atom: e, coef: 1 }]]), constant: 0 };
  }
}

const NEGATED: Readonly<Partial<Record<BinaryOp, BinaryOp>>> = { lt: 'ge', le: 'gt', gt: 'le', ge: 'lt', ne: 'eq' };

const inside = (scope: Scope, axes: readonly Axis[]): Scope => scopeOf(within(axes, scope.facts), scope.known, []);

const scopeOf = (facts: Facts, known: readonly Linear[], swept: readonly Axis[]): Scope => ({
  facts,
  known,
  swept,
  memo: new Map(),
  branches: new Map(),
});

function mentions(root: Expr, axes: ReadonlyMap<string, number>): boolean {
  const seen = new Set<Expr>();
  const visit = (x: Expr): boolean => {
    if (seen.has(x)) return false;
    seen.add(x);
    return x.kind === 'axis' ? axes.has(x.name) : children(x).some(visit);
  };
  return visit(root);
}

/** a + factor·b. */
function sum(a: Linear, b: Linear, factor: number): Linear {
  const terms = new Map(a.terms);
  for (const [id, { atom, coef }] of b.terms) {
    const total = (terms.get(id)?.coef ?? 0) + factor * coef;
    if (total === 0) terms.delete(id);
    else terms.set(id, { atom, coef: total });
  }
  return { terms, constant: a.constant + factor * b.constant };
}

const scaled = (a: Linear, factor: number): Linear => sum({ terms: new Map(), constant: 0 }, a, factor);

const sameTerms = (a: Linear, b: Linear, sign: number): boolean =>
  a.terms.size === b.terms.size && [...a.terms].every(([id, { coef }]) => b.terms.get(id)?.coef === sign * coef);
