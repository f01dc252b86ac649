/**
 * Checks that a kernel keeps the rules of ir.ts: names defined before use, dtypes that fit, indices i32, stores to `out` and loads
 * from `in` buffers, a contract's or an attend's body the one that its form implies, and indices inside their buffers as far as can be told.
 *
 * An index that is a sum of axes outside any condition takes its extreme values, so one that leaves its buffer is a fault. Others
 * are faults where no value of theirs is inside; the rest are checked by whoever runs the kernel. Total and bounded: kernels may
 * come from a stranger's file.
 */
import { DTYPES, type DType, isBigInt, isFloat } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { affineRange, toAffine } from './affine.ts';
import { binaryFn, bitcastFn, unaryFn } from './arithmetic.ts';
import { attendBody, outerAxes } from './attend.ts';
import { affineExpr, contractBody, withoutRole } from './contract.ts';
import { equalAxes, equalStmts } from './equal.ts';
import { children, conditionOf } from './expr.ts';
import { type Facts, intervalOf, noFacts, within } from './intervals.ts';
import type { Access, Attend, Axis, Buffer, Contract, Expr, Kernel, Stmt } from './ir.ts';
import { COMPARES, kernelLines, printExpr, printKernel } from './print.ts';

/** One broken rule, and the statement that breaks it where it is one statement. */
export interface Fault {
  readonly message: string;
  readonly stmt?: Stmt;
}

/** Throws Bug with the printed kernel and a mark under each bad line. */
export function verifyKernel(kernel: Kernel): void {
  const faults = findFaults(kernel);
  if (faults.length > 0) throw new Bug('loop-verify', markFaults(kernel, faults));
}

function markFaults(kernel: Kernel, faults: readonly Fault[]): string {
  const lines = kernelLines(kernel);
  const shown = new Set(lines.map((line) => line.stmt));
  const general = faults.filter((f) => !f.stmt || !shown.has(f.stmt)).map((f) => f.message);
  const marked = lines.flatMap(({ text, stmt }) => [
    text,
    ...faults.filter((f) => stmt && f.stmt === stmt).map((f) => `${' '.repeat(text.search(/\S/))}^ ${f.message}`),
  ]);
  return [`kernel is invalid${general.map((m) => `: ${m}`).join('')}`, ...marked].join('\n');
}

/** Every broken rule, in the order of the text; none where the kernel is valid. Never throws. */
export function findFaults(kernel: Kernel): readonly Fault[] {
  const verifier = new Verifier(kernel.buffers, kernel.form.kind === 'routine');
  verifier.buffers();
  verifier.axes(kernel.axes, []);
  if (kernel.form.kind === 'contract') verifier.contract(kernel, kernel.form);
  if (kernel.form.kind === 'attend') verifier.attend(kernel, kernel.form);
  const facts = within(kernel.axes, noFacts());
  const empty = kernel.axes.some((a) => a.extent === 0);
  verifier.body(kernel.body, { facts, locals: new Map(), certain: !empty });
  return verifier.faults;
}

interface Scope {
  readonly facts: Facts;
  /** Locals that are set on every way here. */
  readonly locals: Map<string, DType>;
  /** True where the statement runs for every point of the axes in scope, and there is one. */
  readonly certain: boolean;
}

/** Where no loop has begun. */
const OUTSIDE: Scope = { facts: noFacts(), locals: new Map(), certain: true };

/** What the body of an attend keeps for itself; its score sets `score` beside. */
const ATTEND_LOCALS: ReadonlySet<string> = new Set(['most', 'next', 'keep', 'weight', 'sum', 'acc', 'dot']);

const isIndexRange = (n: number, least: number): boolean => Number.isInteger(n) && n >= least && n < 2 ** 31;

class Verifier {
  readonly faults: Fault[] = [];
  readonly #buffers: readonly Buffer[];
  readonly #byName: ReadonlyMap<string, Buffer>;
  /** Whether out buffers may be loaded from. */
  readonly #rereads: boolean;
  /** A local keeps its dtype for the whole kernel. */
  readonly #localDTypes = new Map<string, DType>();
  #stmt: Stmt | undefined;

  constructor(buffers: readonly Buffer[], rereads: boolean) {
    this.#buffers = buffers;
    this.#rereads = rereads;
    this.#byName = new Map(buffers.map((b) => [b.name, b]));
  }

  #fault(message: string): void {
    this.faults.push(this.#stmt ? { message, stmt: this.#stmt } : { message });
  }

  buffers(): void {
    if (this.#byName.size !== this.#buffers.length) this.#fault('two buffers have one name');
    for (const b of this.#buffers)
      if (!isIndexRange(b.elements, 0)) this.#fault(`buffer "${b.name}" has ${b.elements} elements`);
  }

  axes(axes: readonly Axis[], outer: Iterable<string>): void {
    const names = new Set(outer);
    for (const { name, extent, limit } of axes) {
      if (names.has(name)) this.#fault(`axis "${name}" stands inside another of that name`);
      names.add(name);
      if (!isIndexRange(extent, 0)) this.#fault(`axis "${name}" has extent ${extent}`);
      if (limit) this.#limit(limit, `axis "${name}"`);
    }
  }

  /** A limit is the same for all points: constants, and elements of in buffers at constant indices. */
  #limit(limit: Expr, what: string): void {
    const visit = (e: Expr): void => {
      const isPlain = e.dtype === 'i32' && (e.kind === 'const' || e.kind === 'load' || e.kind === 'binary');
      const fault = isPlain ? this.#nodeFault(e, OUTSIDE) : 'is no part of a limit';
      const buffer = e.kind === 'load' ? this.#byName.get(e.buffer) : undefined;
      if (fault) this.#fault(`the limit of ${what}: ${printShort(e)}: ${fault}`);
      else if (e.kind === 'load' && buffer) {
        if (e.index.kind !== 'const' || buffer.role !== 'in')
          this.#fault(`the limit of ${what} reads ${printShort(e)}, which is no constant place of an in buffer`);
        else this.#inside(e.index, buffer, OUTSIDE);
      } else for (const child of children(e)) visit(child);
    };
    visit(limit);
  }

  contract(kernel: Kernel, form: Contract): void {
    if (form.acc !== 'f32' && form.acc !== 'f64' && form.acc !== 'i32')
      this.#fault(`a contract cannot sum in ${form.acc}`);
    this.axes(form.axes, []);
    this.#access('a', form.a, form, ['batch', 'm', 'k']);
    this.#access('b', form.b, form, ['batch', 'n', 'k']);
    if (!this.#byName.has(form.a.buffer) || !this.#byName.has(form.b.buffer)) return;
    const axes = form.axes.filter((a) => a.role !== 'k').map(withoutRole);
    this.#implied(kernel, axes, contractBody(kernel.buffers, form));
  }

  attend(kernel: Kernel, form: Attend): void {
    this.axes(form.axes, []);
    if (form.axes.filter((a) => a.role === 'key').length !== 1) {
      this.#fault('an attend has one axis of keys');
      return;
    }
    this.#access('q', form.q, form, ['batch', 'query', 'inner']);
    this.#access('k', form.k, form, ['batch', 'key', 'inner']);
    this.#access('v', form.v, form, ['batch', 'key', 'value']);
    const operands = [form.q, form.k, form.v];
    if (operands.some((a) => a.dims.some((d) => d.padded))) this.#fault('a dim of an attend is padded');
    for (const stmt of [...form.score, ...form.epilogue]) {
      if (stmt.kind === 'let' && ATTEND_LOCALS.has(stmt.local)) this.#fault(`a let of an attend sets "${stmt.local}"`);
    }
    if (form.score.some((s) => s.kind !== 'let')) this.#fault('the score of an attend is made of lets');
    if (operands.every((a) => this.#byName.has(a.buffer)))
      this.#implied(kernel, outerAxes(form), attendBody(kernel.buffers, form));
  }

  /** The index space and the body are those that the form implies. */
  #implied(kernel: Kernel, axes: readonly Axis[], body: readonly Stmt[]): void {
    const text = (a: readonly Axis[], stmts: readonly Stmt[]) =>
      printKernel({ name: '', form: { kind: 'map' }, buffers: [], axes: a, body: stmts });
    // What is equal object by object is equal as text, and found so much sooner.
    if (equalAxes(kernel.axes, axes) && equalStmts(kernel.body, body)) return;
    if (text(kernel.axes, kernel.body) !== text(axes, body))
      this.#fault(`the body is not the one that the form of the ${kernel.form.kind} implies`);
  }

  /** An operand: axes it may depend on, coordinates inside their extents unless padded, all elements inside the buffer. */
  #access(which: string, access: Access, form: Contract | Attend, roles: readonly string[]): void {
    const buffer = this.#byName.get(access.buffer);
    if (!buffer) {
      this.#fault(`operand ${which} reads "${access.buffer}", which is no buffer`);
      return;
    }
    const axes: readonly (Axis & { readonly role: string })[] = form.axes;
    const extents = new Map(axes.filter((a) => roles.includes(a.role)).map((a) => [a.name, a.extent]));
    const nonEmpty = axes.every((a) => a.extent > 0);
    let least = 0;
    let most = 0;
    for (const { at, extent, limit, stride, padded } of access.dims) {
      if (limit) this.#limit(limit, `a dim of operand ${which}`);
      for (const { axis, coef } of at.terms) {
        if (!extents.has(axis)) this.#fault(`operand ${which} depends on "${axis}", which is no axis of its roles`);
        if (!isIndexRange(Math.abs(coef), 0)) this.#fault(`operand ${which} has coefficient ${coef}`);
      }
      if (!isIndexRange(extent, 0) || !isIndexRange(Math.abs(stride), 0) || !isIndexRange(Math.abs(at.constant), 0))
        this.#fault(`operand ${which} has a dim of extent ${extent}, stride ${stride}, constant ${at.constant}`);
      const reach = at.terms.map((t) => t.coef * ((extents.get(t.axis) ?? 1) - 1));
      const lo = reach.reduce((n, r) => n + Math.min(0, r), at.constant);
      const hi = reach.reduce((n, r) => n + Math.max(0, r), at.constant);
      if (nonEmpty && !padded && (lo < 0 || hi >= extent))
        this.#fault(
          `operand ${which}: ${printExpr(affineExpr(at), 'i32')} leaves its extent ${extent} and is not padded`,
        );
      least += Math.min(0, (extent - 1) * stride);
      most += Math.max(0, (extent - 1) * stride);
    }
    if (nonEmpty && access.dims.every((d) => d.extent > 0) && (least < 0 || most >= buffer.elements))
      this.#fault(
        `operand ${which} reaches elements ${least} to ${most} of "${buffer.name}", which has ${buffer.elements}`,
      );
  }

  body(body: readonly Stmt[], scope: Scope): void {
    for (const stmt of body) {
      this.#stmt = stmt;
      this.#check(stmt, scope);
    }
    this.#stmt = undefined;
  }

  #check(stmt: Stmt, scope: Scope): void {
    const inner = (axes: readonly Axis[]): Scope => {
      this.axes(axes, scope.facts.axes.keys());
      const certain = scope.certain && axes.every((a) => a.extent > 0);
      return { facts: within(axes, scope.facts), locals: new Map(scope.locals), certain };
    };
    switch (stmt.kind) {
      case 'for':
      case 'scan': {
        const scope = inner([stmt.axis]);
        const condition = conditionOf(stmt);
        // Which iterations ask is not known.
        const body = condition ? { ...scope, certain: false } : scope;
        if (condition) this.#expr(condition, 'bool', body);
        this.body(stmt.body, body);
        break;
      }
      case 'if': {
        this.#expr(stmt.cond, 'bool', scope);
        const certain = scope.certain && intervalOf(stmt.cond, scope.facts).lo === 1;
        this.body(stmt.body, { facts: scope.facts, locals: new Map(scope.locals), certain });
        break;
      }
      case 'let':
        this.#expr(stmt.value, stmt.dtype, scope);
        this.#define(stmt.local, stmt.dtype, scope);
        break;
      case 'reduce':
        if (!binaryFn(stmt.op, stmt.dtype)) this.#fault(`no reduction ${stmt.op} on ${stmt.dtype}`);
        this.#expr(stmt.value, stmt.dtype, inner(stmt.axes));
        this.#define(stmt.local, stmt.dtype, scope);
        break;
      case 'store': {
        const buffer = this.#byName.get(stmt.buffer);
        if (buffer?.role !== 'out') this.#fault(`stores to "${stmt.buffer}", which is no out buffer`);
        this.#expr(stmt.index, 'i32', scope);
        this.#expr(stmt.value, buffer?.dtype, scope);
        if (buffer && scope.certain) this.#inside(stmt.index, buffer, scope);
        break;
      }
      default:
        stmt satisfies never;
    }
  }

  #define(name: string, dtype: DType, scope: Scope): void {
    if (scope.facts.axes.has(name)) this.#fault(`local "${name}" has the name of an axis`);
    const before = this.#localDTypes.get(name);
    if (before && before !== dtype) this.#fault(`local "${name}" is ${before} elsewhere`);
    this.#localDTypes.set(name, dtype);
    scope.locals.set(name, dtype);
  }

  /** Checks a statement's expression: each node once, and once more where it stands under a condition and outside of any. */
  #expr(root: Expr, dtype: DType | undefined, scope: Scope): void {
    if (dtype && root.dtype !== dtype) this.#fault(`${printShort(root)} is ${root.dtype}, expected ${dtype}`);
    const checked = new Set<Expr>();
    const ranged = new Set<Expr>();
    const visit = (e: Expr, certain: boolean): void => {
      if (ranged.has(e) || (!certain && checked.has(e))) return;
      const fault = checked.has(e) ? undefined : this.#nodeFault(e, scope);
      checked.add(e);
      if (certain) ranged.add(e);
      if (fault) this.#fault(`${printShort(e)}: ${fault}`);
      const buffer = e.kind === 'load' && certain ? this.#byName.get(e.buffer) : undefined;
      if (e.kind === 'load' && buffer) this.#inside(e.index, buffer, scope);
      if (e.kind === 'select') {
        const cond = intervalOf(e.cond, scope.facts);
        visit(e.cond, certain);
        visit(e.a, certain && cond.lo === 1);
        visit(e.b, certain && cond.hi === 0);
      } else for (const child of children(e)) visit(child, certain);
    };
    visit(root, scope.certain);
  }

  #nodeFault(e: Expr, scope: Scope): string | undefined {
    switch (e.kind) {
      case 'const':
        return fitsDType(e.value, e.dtype) ? undefined : `no value of ${e.dtype}`;
      case 'axis':
        return scope.facts.axes.has(e.name) ? undefined : 'no such axis here';
      case 'local': {
        const dtype = scope.locals.get(e.name);
        return dtype === e.dtype
          ? undefined
          : dtype
            ? `is ${dtype}, read as ${e.dtype}`
            : 'may be read before it is set';
      }
      case 'load': {
        const buffer = this.#byName.get(e.buffer);
        if (buffer === undefined || (buffer.role === 'out' && !this.#rereads)) return 'loads from what is no in buffer';
        if (buffer.dtype !== e.dtype) return `loads ${e.dtype} from ${buffer.dtype}`;
        return e.index.dtype === 'i32' ? undefined : `index is ${e.index.dtype}`;
      }
      case 'unary': {
        const result = e.op === 'isnan' || e.op === 'isinf' ? 'bool' : e.x.dtype;
        return unaryFn(e.op, e.x.dtype) && e.dtype === result ? undefined : `no ${e.op} of ${e.x.dtype} to ${e.dtype}`;
      }
      case 'binary': {
        const result = COMPARES.has(e.op) ? 'bool' : e.a.dtype;
        if (e.a.dtype !== e.b.dtype) return `${e.op} of ${e.a.dtype} and ${e.b.dtype}`;
        return binaryFn(e.op, e.a.dtype) && e.dtype === result ? undefined : `no ${e.op} of ${e.a.dtype} to ${e.dtype}`;
      }
      case 'select':
        if (e.cond.dtype !== 'bool') return `condition is ${e.cond.dtype}`;
        return e.a.dtype === e.dtype && e.b.dtype === e.dtype ? undefined : `select of ${e.a.dtype} and ${e.b.dtype}`;
      case 'cast':
        return undefined;
      case 'bitcast':
        return bitcastFn(e.x.dtype, e.dtype) ? undefined : `no bitcast from ${e.x.dtype} to ${e.dtype}`;
      default:
        return e satisfies never;
    }
  }

  #inside(index: Expr, buffer: Buffer, scope: Scope): void {
    if (index.dtype !== 'i32') return;
    // A sum of axes takes its extremes at some point; of others the interval may be too wide.
    const affine = toAffine(index);
    const axes = [...scope.facts.axes].map(([name, { hi }]) => ({ name, extent: hi + 1 }));
    const { lo, hi } = intervalOf(index, scope.facts);
    const [least, most] = affine ? affineRange(affine, axes) : [lo, hi];
    if (affine ? least < 0 || most >= buffer.elements : hi < 0 || lo >= buffer.elements)
      this.#fault(`${printShort(index)} is ${least} to ${most}, "${buffer.name}" has ${buffer.elements} elements`);
  }
}

function fitsDType(value: number | bigint, dtype: DType): boolean {
  if (typeof value === 'bigint' ? !isBigInt(dtype) : isBigInt(dtype)) return false;
  if (isFloat(dtype)) return true;
  const whole = typeof value === 'bigint' || Number.isInteger(value);
  return whole && value >= DTYPES[dtype].min && value <= DTYPES[dtype].max;
}

const printShort = (e: Expr): string => {
  const text = printExpr(e, e.dtype);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};
