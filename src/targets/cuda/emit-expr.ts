/**
 * Loop-IR expressions as PTX: each Expr becomes one register, or one a lane where it depends on the axis in the lanes.
 *
 * Lanes are neighbouring points that one thread computes side by side; loads and stores that move with the lanes one element at a
 * time become vector instructions where alignment allows. An expression is evaluated without branches: of a select both sides are
 * computed, but a load inside one happens only under its condition (a predicate), so it may be out of range elsewhere.
 *
 * An index is a linear form: terms are summed in the order in which their names were bound, so that what outer loops know is summed
 * outside (`prepare`), and constants, unrolled iterations among them, are the offset of the instruction.
 */
import { DTYPES, type DType } from '../../core/dtype.ts';
import { Bug } from '../../core/errors.ts';
import { encodeScalar } from '../../core/tensor.ts';
import { children } from '../../loop/expr.ts';
import { isHalf } from '../../loop/halves.ts';
import { type Facts, intervalOf, noFacts, within } from '../../loop/intervals.ts';
import type { Axis, BinaryOp, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { ExprTable } from '../cpu/linear.ts';
import { boundNames, bufferKey, exprsOf, localKey } from '../cpu/walk.ts';
import type { PtxKernel, Reg } from './ptx.ts';
import { constantReg, type LoadGuard, loadElements, mostElements, storeElements } from './registers.ts';
import { scalarBinary, scalarBitcast, scalarCast, scalarUnary } from './scalar-ops.ts';

/** An axis is scale·reg + offset [+ lane]; without a register it is the offset. */
export interface AxisBinding {
  readonly reg?: Reg;
  readonly scale?: number;
  readonly offset: number;
  readonly lanes?: boolean;
}

/** One register, or one a lane. */
export type Value = readonly Reg[];

interface Bound {
  readonly axis?: AxisBinding;
  readonly local?: Value;
  /** Changes when the value does. */
  readonly version: string;
  /** Grows with each binding: outer names have less. */
  readonly depth: number;
}

/** An index at this place: Σ reg·coef, plus for each lane a constant, or a register of its own. */
interface Resolved {
  readonly terms: readonly { readonly reg: Reg; readonly coef: number }[];
  readonly constants: readonly number[];
  readonly perLane?: readonly Reg[];
}

const BASE: { readonly role: 'in' | 'out'; readonly kind: string }[] = [
  { role: 'in', kind: 'global.nc' },
  { role: 'out', kind: 'global' },
];

export class ExprEmitter {
  readonly k: PtxKernel;
  readonly table = new ExprTable();
  readonly #kernel: Kernel;
  readonly #pointers: ReadonlyMap<string, Reg>;
  readonly #alignments: ReadonlyMap<string, number>;
  readonly #bound = new Map<string, Bound>();
  readonly #memo: Map<string, Value>[] = [new Map()];
  #facts: Facts = noFacts();
  #mask: Reg | undefined;
  #lanes = 1;
  #clock = 0;

  constructor(k: PtxKernel, kernel: Kernel, pointers: readonly Reg[], alignments: readonly number[]) {
    this.k = k;
    this.#kernel = kernel;
    this.#pointers = new Map(kernel.buffers.map((b, i) => [b.name, pointers[i]]));
    this.#alignments = new Map(kernel.buffers.map((b, i) => [b.name, alignments[i]]));
  }

  get lanes(): number {
    return this.#lanes;
  }

  /** `body` computes so many neighbouring points. */
  withLanes<T>(lanes: number, body: () => T): T {
    const outer = this.#lanes;
    this.#lanes = lanes;
    try {
      return body();
    } finally {
      this.#lanes = outer;
    }
  }

  /** Loads inside `body` happen only where `pred` holds. */
  masked<T>(pred: Reg, body: () => T): T {
    const outer = this.#mask;
    this.#mask = outer ? this.k.op('and.pred', outer, pred) : pred;
    try {
      return body();
    } finally {
      this.#mask = outer;
    }
  }

  /** What `body` computes is not known after it: it may not have run. */
  scope<T>(body: () => T): T {
    const facts = this.#facts;
    this.#memo.push(new Map());
    try {
      return this.k.scope(body);
    } finally {
      this.#memo.pop();
      this.#facts = facts;
    }
  }

  bindAxis(axis: Axis, binding: AxisBinding): void {
    const { reg, scale = 1, offset, lanes } = binding;
    const version = `${reg ? `${reg.name}*${scale}` : ''}+${offset}${lanes ? `/${this.#lanes}` : ''}`;
    this.#bound.set(axis.name, { axis: binding, version, depth: ++this.#clock });
    this.#facts = within([axis], this.#facts);
  }

  bindLocal(name: string, value: Value): void {
    const version = `${value.map((r) => r.name).join()}@${++this.#clock}`;
    this.#bound.set(localKey(name), { local: value, version, depth: this.#clock });
  }

  /** Forgets what is known of names that were assigned on another path or in an earlier iteration. */
  touch(names: Iterable<string>): void {
    for (const name of names) {
      const bound = this.#bound.get(name);
      if (bound?.local) this.bindLocal(name.slice(localKey('').length), bound.local);
      else if (name.startsWith(bufferKey(''))) this.#bound.set(name, { version: `${++this.#clock}`, depth: 0 });
    }
  }

  /** True where the value may differ between lanes. */
  varies(x: Expr): boolean {
    if (this.#lanes === 1) return false;
    for (const name of this.table.info(x).free) {
      const bound = this.#bound.get(name);
      if (bound?.axis?.lanes || (bound?.local && bound.local.length > 1)) return true;
    }
    return false;
  }

  /** A register a lane where the expression varies, one otherwise. */
  value(x: Expr): Value {
    if (x.kind === 'const') return [constantReg(this.k, x.dtype, x.value)];
    if (x.kind === 'local') return this.#local(x.name);
    if (x.kind === 'axis') return this.#axis(x.name);
    const { id, guarded } = this.table.info(x);
    const key = `${id}${this.#versions(x)}${guarded && this.#mask ? ` under ${this.#mask.name}` : ''}`;
    for (const memo of this.#memo) {
      const known = memo.get(key);
      if (known) return known;
    }
    const value = this.#compute(x);
    this.#memo[this.#memo.length - 1].set(key, value);
    return value;
  }

  /** The value of an expression that is the same in all lanes. */
  scalar(x: Expr): Reg {
    const value = this.value(x);
    if (value.length > 1) throw new Bug('cuda-lanes', 'a value that varies by lane stands where one is wanted');
    return value[0];
  }

  #versions(x: Expr): string {
    let out = '';
    for (const name of this.table.info(x).free) {
      const bound = this.#bound.get(name);
      if (bound) out += `,${bound.version}`;
      else if (!name.startsWith(bufferKey(''))) throw new Bug('cuda-unbound', `${name} is read where it has no value`);
    }
    return out;
  }

  #local(name: string): Value {
    const bound = this.#bound.get(localKey(name));
    if (!bound?.local) throw new Bug('cuda-unbound', `local ${name} is read before it is set`);
    return bound.local;
  }

  #axis(name: string): Value {
    const axis = this.#bound.get(name)?.axis;
    if (!axis) throw new Bug('cuda-unbound', `axis ${name} is read outside its loop`);
    const at = (lane: number): Reg => {
      const { reg, scale = 1, offset } = axis;
      if (!reg) return this.k.op('mov.u32', offset + lane);
      const scaled = scale === 1 ? reg : this.k.op('mul.lo.s32', reg, scale);
      return offset + lane === 0 ? scaled : this.k.op('add.s32', scaled, offset + lane);
    };
    return axis.lanes ? Array.from({ length: this.#lanes }, (_, lane) => at(lane)) : [at(0)];
  }

  #compute(x: Expr): Value {
    switch (x.kind) {
      case 'const':
      case 'axis':
      case 'local':
        return this.value(x);
      case 'load':
        return this.#load(x.buffer, x.index);
      case 'select':
        return this.#select(x);
      case 'unary':
        return this.value(x.x).map((reg) => scalarUnary(this.k, x.op, x.x.dtype, reg));
      case 'cast':
        return this.value(x.x).map((reg) => scalarCast(this.k, x.x.dtype, x.dtype, reg));
      case 'bitcast':
        return this.value(x.x).map((reg) => scalarBitcast(this.k, x.dtype, reg));
      case 'binary':
        return this.#binary(x);
      default:
        return x satisfies never;
    }
  }

  #binary(x: Extract<Expr, { kind: 'binary' }>): Value {
    const within = this.#rangeCheck(x) ?? this.#linearValue(x);
    if (within) return within;
    const fused = this.#fusedSum(x);
    if (fused) return fused;
    const [a, b] = [this.value(x.a), this.value(x.b)];
    const dtype = x.a.dtype;
    const known =
      dtype === 'i32' && (x.op === 'floordiv' || x.op === 'mod' || x.op === 'div' || x.op === 'rem')
        ? {
            nonNegative: intervalOf(x.a, this.#facts).lo >= 0,
            ...(x.b.kind === 'const' && { divisor: Number(x.b.value) }),
          }
        : {};
    return zip(a, b, (p, q) => scalarBinary(this.k, x.op, dtype, p, q, known));
  }

  /** A sum of indices: equal for equal sums, whichever unrolled iterations they come from. */
  #linearValue(x: Extract<Expr, { kind: 'binary' }>): Value | undefined {
    if (x.dtype !== 'i32' || (x.op !== 'add' && x.op !== 'sub' && x.op !== 'mul')) return undefined;
    if (this.table.linear(x).terms.some(({ atom }) => atom === x)) return undefined;
    const { terms, constants, perLane } = this.#resolve(x);
    const sum = this.#sum(terms);
    const plus = (reg: Reg | undefined, constant: number): Reg => {
      if (!reg) return this.k.op('mov.u32', constant);
      return constant === 0 ? reg : this.k.op('add.s32', reg, constant);
    };
    if (perLane) return perLane.map((reg, lane) => plus(sum ? this.k.op('add.s32', reg, sum) : reg, constants[lane]));
    if (constants.every((c) => c === constants[0])) return [plus(sum, constants[0])];
    return constants.map((constant) => plus(sum, constant));
  }

  /** 0 <= x && x < n is one unsigned comparison. */
  #rangeCheck(x: Extract<Expr, { kind: 'binary' }>): Value | undefined {
    const { a, b } = x;
    if (x.op !== 'and' || a.kind !== 'binary' || b.kind !== 'binary' || a.op !== 'ge' || b.op !== 'lt')
      return undefined;
    if (a.a.dtype !== 'i32' || !isZero(a.b) || b.b.kind !== 'const' || Number(b.b.value) < 0) return undefined;
    if (this.table.info(a.a).id !== this.table.info(b.a).id) return undefined;
    const bound = Number(b.b.value);
    return this.value(a.a).map((reg) => this.k.op('setp.lt.u32', reg, bound));
  }

  /** a·b + c in one rounding. */
  #fusedSum(x: Extract<Expr, { kind: 'binary' }>): Value | undefined {
    const type = x.dtype === 'f64' ? 'fma.rn.f64' : 'fma.rn.f32';
    if (!FUSES.has(x.dtype) || x.op !== 'add') return undefined;
    const [product, other] = isProduct(x.a) ? [x.a, x.b] : [x.b, x.a];
    if (!isProduct(product)) return undefined;
    const [a, b, c] = [this.value(product.a), this.value(product.b), this.value(other)];
    const width = Math.max(a.length, b.length, c.length);
    const lane = (v: Value, i: number): Reg => v[v.length === 1 ? 0 : i];
    return Array.from({ length: width }, (_, i) => this.k.op(type, lane(a, i), lane(b, i), lane(c, i)));
  }

  #select(x: Extract<Expr, { kind: 'select' }>): Value {
    const cond = this.value(x.cond);
    const filled = this.#guardedLoad(x, cond);
    if (filled) return filled;
    const sides = [x.a, x.b].map((side, i): Value => {
      if (!this.table.info(side).guarded) return this.value(side);
      if (cond.length === 1)
        return this.masked(i === 0 ? cond[0] : this.k.op('not.pred', cond[0]), () => this.value(side));
      return this.#eachLane((lane) => {
        const pred = i === 0 ? cond[lane] : this.k.op('not.pred', cond[lane]);
        return this.masked(pred, () => this.scalar(side));
      });
    });
    const width = Math.max(cond.length, sides[0].length, sides[1].length);
    return Array.from({ length: width }, (_, i) => {
      const [p, a, b] = [cond, sides[0], sides[1]].map((v) => v[v.length === 1 ? 0 : i]);
      return choose(this.k, p, a, b);
    });
  }

  /** select(p, load, constant) is a load whose result is the constant where p does not hold. */
  #guardedLoad(x: Extract<Expr, { kind: 'select' }>, cond: Value): Value | undefined {
    const casts = x.a.kind === 'cast' && isZero(x.b) && x.a.dtype !== 'bool' ? x.a : undefined;
    const source = casts ? casts.x : x.a;
    if (source.kind !== 'load' || x.b.kind !== 'const' || this.varies(source) !== this.varies(x)) return undefined;
    if (casts && source.dtype === 'bool') return undefined;
    const fill = casts ? (source.dtype === 'i64' || source.dtype === 'u64' ? 0n : 0) : x.b.value;
    if (cond.length > 1) {
      return this.#eachLane((lane) => {
        const [loaded] = this.#load(source.buffer, source.index, { pred: cond[lane], fill });
        return casts ? scalarCast(this.k, source.dtype, casts.dtype, loaded) : loaded;
      });
    }
    const loaded = this.#load(source.buffer, source.index, { pred: cond[0], fill });
    return casts ? loaded.map((reg) => scalarCast(this.k, source.dtype, casts.dtype, reg)) : loaded;
  }

  /** Evaluates lane by lane: the axis in the lanes stands at one of them. */
  #eachLane(evaluate: (lane: number) => Reg): Reg[] {
    const saved = new Map(this.#bound);
    const count = this.#lanes;
    return Array.from({ length: count }, (_, lane) => {
      for (const [name, bound] of saved) {
        const { axis, local } = bound;
        if (axis?.lanes) {
          const { lanes: _lanes, ...rest } = axis;
          const offset = axis.offset + lane;
          this.#bound.set(name, { ...bound, axis: { ...rest, offset }, version: `${bound.version}:${lane}` });
        } else if (local && local.length > 1) {
          this.#bound.set(name, { ...bound, local: [local[lane]], version: `${bound.version}:${lane}` });
        }
      }
      const result = this.withLanes(1, () => evaluate(lane));
      for (const [name, bound] of saved) this.#bound.set(name, bound);
      return result;
    });
  }

  // Indices and memory.

  #resolve(index: Expr): Resolved {
    const { terms, constant } = this.table.linear(index);
    const constants = new Array<number>(this.#lanes).fill(constant);
    const uniform: { reg: Reg; coef: number; depth: number }[] = [];
    let perLane: Reg[] | undefined;
    for (const { atom, coef } of terms) {
      const axis = atom.kind === 'axis' ? this.#bound.get(atom.name)?.axis : undefined;
      if (axis) {
        for (let lane = 0; lane < constants.length; lane++)
          constants[lane] += coef * (axis.offset + (axis.lanes ? lane : 0));
        if (axis.reg) uniform.push({ reg: axis.reg, coef: coef * (axis.scale ?? 1), depth: this.#depth(atom) });
        continue;
      }
      const value = this.value(atom);
      if (value.length === 1) uniform.push({ reg: value[0], coef, depth: this.#depth(atom) });
      else perLane = value.map((reg, lane) => addScaled(this.k, reg, coef, perLane?.[lane]));
    }
    uniform.sort((x, y) => x.depth - y.depth);
    return { terms: uniform, constants, ...(perLane && { perLane }) };
  }

  #depth(x: Expr): number {
    let depth = 0;
    for (const name of this.table.info(x).free) depth = Math.max(depth, this.#bound.get(name)?.depth ?? 0);
    return depth;
  }

  #sum(terms: Resolved['terms']): Reg | undefined {
    return terms.reduce<Reg | undefined>((sum, { reg, coef }) => addScaled(this.k, reg, coef, sum), undefined);
  }

  #address(buffer: string, bytes: number, offset: Reg | undefined): Reg {
    const base = this.#pointer(buffer);
    return offset ? this.k.op('mad.wide.s32', offset, bytes, base) : base;
  }

  #pointer(buffer: string): Reg {
    const pointer = this.#pointers.get(buffer);
    if (!pointer) throw new Bug('cuda-buffer', `the kernel has no buffer "${buffer}"`);
    return pointer;
  }

  #buffer(name: string) {
    const buffer = this.#kernel.buffers.find((b) => b.name === name);
    if (!buffer) throw new Bug('cuda-buffer', `the kernel has no buffer "${name}"`);
    return { dtype: buffer.dtype, kind: BASE.find((b) => b.role === buffer.role)!.kind };
  }

  /** Elements that one instruction can move when lanes are neighbours in memory; 1 where they are not. */
  #chunk(buffer: string, dtype: DType, { terms, constants, perLane }: Resolved): number {
    const lanes = constants.length;
    if (perLane || lanes === 1 || constants[1] - constants[0] !== 1) return 1;
    let chunk = Math.min(lanes, mostElements(dtype));
    const { bytes } = DTYPES[dtype];
    const fits = (n: number): boolean =>
      lanes % n === 0 &&
      this.#alignments.get(buffer)! % (n * bytes) === 0 &&
      constants[0] % n === 0 &&
      terms.every(({ coef }) => coef % n === 0);
    while (chunk > 1 && !fits(chunk)) chunk /= 2;
    return chunk;
  }

  #load(name: string, index: Expr, guard?: { readonly pred: Reg; readonly fill: number | bigint }): Value {
    const { dtype, kind } = this.#buffer(name);
    const resolved = this.#resolve(index);
    const outer = this.#mask;
    const pred = guard ? (outer ? this.k.op('and.pred', outer, guard.pred) : guard.pred) : outer;
    const encoded = isHalf(dtype);
    const fill = guard ? (encoded ? Number(encodeScalar(dtype, guard.fill)) : guard.fill) : 0;
    const under: LoadGuard | undefined = pred && { pred, fill };
    const version = this.#bound.get(bufferKey(name))?.version ?? '';
    const sum = this.#sum(resolved.terms);
    const { bytes } = DTYPES[dtype];
    const read = (offset: Reg | undefined, constant: number, count: number): Value => {
      const key = `load ${name}${version} ${offset?.name}+${constant}*${count} ${pred?.name}:${fill}`;
      return this.#remember(key, () => {
        const base = this.#address(name, bytes, offset);
        return loadElements(this.k, kind, dtype, this.k.at(base, constant * bytes), count, under);
      });
    };
    const { constants, perLane } = resolved;
    if (perLane) {
      return perLane.map((reg, lane) => read(sum ? this.k.op('add.s32', reg, sum) : reg, constants[lane], 1)[0]);
    }
    if (constants.every((c) => c === constants[0])) return read(sum, constants[0], 1);
    const chunk = this.#chunk(name, dtype, resolved);
    const starts = constants.filter((_, lane) => lane % chunk === 0);
    return starts.flatMap((constant) => read(sum, constant, chunk));
  }

  #remember(key: string, compute: () => Value): Value {
    for (const memo of this.#memo) {
      const known = memo.get(key);
      if (known) return known;
    }
    const value = compute();
    this.#memo[this.#memo.length - 1].set(key, value);
    return value;
  }

  store(name: string, index: Expr, x: Expr): void {
    const { dtype } = this.#buffer(name);
    // A store to a half rounds by itself.
    const value = this.value(x.kind === 'cast' && x.dtype === dtype && x.x.dtype === 'f32' && isHalf(dtype) ? x.x : x);
    const resolved = this.#resolve(index);
    const sum = this.#sum(resolved.terms);
    const { bytes } = DTYPES[dtype];
    const { constants, perLane } = resolved;
    const lane = (i: number): Reg => value[value.length === 1 ? 0 : i];
    const write = (offset: Reg | undefined, constant: number, values: readonly Reg[]): void => {
      storeElements(this.k, dtype, this.k.at(this.#address(name, bytes, offset), constant * bytes), values);
    };
    if (perLane) {
      perLane.forEach((reg, i) => {
        write(sum ? this.k.op('add.s32', reg, sum) : reg, constants[i], [lane(i)]);
      });
    } else {
      const chunk = this.#chunk(name, dtype, resolved);
      for (let i = 0; i < constants.length; i += chunk) {
        write(
          sum,
          constants[i],
          Array.from({ length: chunk }, (_, j) => lane(i + j)),
        );
      }
    }
    this.touch([bufferKey(name)]);
  }

  /** Loads of in buffers that happen whatever else does, at places that no local decides. */
  plainLoads(stmts: readonly Stmt[]): Expr[] {
    const found = new Set<Expr>();
    const visit = (x: Expr): void => {
      if (x.kind === 'load') {
        const { free } = this.table.info(x);
        const isPlain = [...free].every((name) => !name.startsWith(localKey('')));
        const isIn = this.#kernel.buffers.some((b) => b.name === x.buffer && b.role === 'in');
        if (isPlain && isIn) found.add(x);
      } else if (x.kind === 'select') visit(x.cond);
      else children(x).forEach(visit);
    };
    for (const s of stmts) {
      if (s.kind === 'store' || s.kind === 'let' || s.kind === 'reduce') visit(s.value);
    }
    return [...found];
  }

  /** Computes now what the statements need and what depends on nothing that they or `axes` change: call it before a loop. */
  prepare(stmts: readonly Stmt[], axes: readonly string[]): void {
    const changing = new Set([...boundNames(stmts), ...axes]);
    const seen = new Set<Expr>();
    const prefix = (index: Expr): void => {
      const { terms } = this.table.linear(index);
      for (const { atom } of terms) visit(atom);
      const known = terms.filter(({ atom }) => !this.table.dependsOn(atom, changing) && !this.table.info(atom).guarded);
      const placed = known.flatMap(({ atom, coef }) => {
        const axis = atom.kind === 'axis' ? this.#bound.get(atom.name)?.axis : undefined;
        if (axis) return axis.reg ? [{ reg: axis.reg, coef: coef * (axis.scale ?? 1), depth: this.#depth(atom) }] : [];
        const value = this.value(atom);
        return value.length === 1 ? [{ reg: value[0], coef, depth: this.#depth(atom) }] : [];
      });
      this.#sum(placed.sort((x, y) => x.depth - y.depth));
    };
    const visit = (x: Expr): void => {
      if (seen.has(x)) return;
      seen.add(x);
      if (x.kind === 'const' || x.kind === 'axis' || x.kind === 'local') return;
      if (!this.table.dependsOn(x, changing) && !this.table.info(x).guarded) {
        this.value(x);
        return;
      }
      if (x.kind === 'load') prefix(x.index);
      else children(x).forEach(visit);
    };
    const visitAll = (body: readonly Stmt[]): void => {
      for (const s of body) {
        if (s.kind === 'store') {
          prefix(s.index);
          visit(s.value);
        } else exprsOf(s).forEach(visit);
        if (s.kind === 'for' || s.kind === 'scan' || s.kind === 'if') visitAll(s.body);
      }
    };
    visitAll(stmts);
  }
}

const FUSES: ReadonlySet<DType> = new Set<DType>(['f32', 'f16', 'bf16', 'f64']);
const isProduct = (x: Expr): x is Extract<Expr, { kind: 'binary' }> =>
  x.kind === 'binary' && x.op === ('mul' as BinaryOp);
const isZero = (x: Expr): boolean => x.kind === 'const' && Number(x.value) === 0 && !Object.is(x.value, -0);

const zip = (a: Value, b: Value, f: (x: Reg, y: Reg) => Reg): Value =>
  Array.from({ length: Math.max(a.length, b.length) }, (_, i) =>
    f(a[a.length === 1 ? 0 : i], b[b.length === 1 ? 0 : i]),
  );

/** sum + reg·coef. */
function addScaled(k: PtxKernel, reg: Reg, coef: number, sum: Reg | undefined): Reg {
  if (!sum) return coef === 1 ? reg : k.op('mul.lo.s32', reg, coef);
  return coef === 1 ? k.op('add.s32', sum, reg) : k.op('mad.lo.s32', reg, coef, sum);
}

/** pred ? a : b, for predicates too. */
export function choose(k: PtxKernel, pred: Reg, a: Reg, b: Reg): Reg {
  if (a.type !== 'pred') return k.op(`selp.${a.type}`, a, b, pred);
  return k.op('or.pred', k.op('and.pred', pred, a), k.op('and.pred', k.op('not.pred', pred), b));
}
