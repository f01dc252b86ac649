/**
 * Expressions as code: each Expr becomes a register, scalar, or a vector where it depends on the axis that lies in the lanes.
 *
 * Registers are cached by the expression's structural identity (scopes.ts), so hoisting is nothing but asking for a value before a
 * loop is entered (`prepare`). A select is lazy: what reads memory in a branch is computed inside it, under a mask where the condition
 * differs by lane.
 */
import { DTYPES, type DType, type MachineDType, storageOf } from '../../core/dtype.ts';
import { Bug } from '../../core/errors.ts';
import { children, conditionOf } from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { type Address, Addresses } from './addresses.ts';
import type { Asm, MemType, Reg } from './asm.ts';
import { ExprTable, isNonNegative } from './linear.ts';
import {
  bf16ToF32,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  scalarBinary,
  scalarBitcast,
  scalarCast,
  scalarType,
  scalarUnary,
} from './scalar-ops.ts';
import { Scopes } from './scopes.ts';
import {
  isVector,
  isVectorDType,
  LANE_MEMORY,
  vectorBinary,
  vectorCast,
  vectorShift,
  vectorType,
  vectorUnary,
  wrapped,
} from './vector-ops.ts';
import { boundNames, bufferKey, exprsOf, localKey } from './walk.ts';

const MEMORY: { readonly [D in MachineDType]: MemType } = {
  f64: 'f64',
  f32: 'f32',
  f16: 'u16',
  bf16: 'u16',
  i64: 'i64',
  u64: 'i64',
  i32: 'i32',
  u32: 'i32',
  i16: 'i16',
  u16: 'u16',
  i8: 'i8',
  u8: 'u8',
  bool: 'u8',
};

export class ExprEmitter {
  readonly asm: Asm;
  readonly table = new ExprTable();
  readonly scopes = new Scopes(this.table);
  readonly #addresses: Addresses;
  /** A mask under which loads happen, while a branch is evaluated whose condition differs by lane. */
  #mask: Reg | undefined;

  constructor(asm: Asm, kernel: Kernel) {
    this.asm = asm;
    this.#addresses = new Addresses(asm, kernel, this.table, this.scopes, (x) => this.value(x));
  }

  /** The expression's value: a vector register exactly where it varies by lane. */
  value(x: Expr): Reg {
    if (x.kind === 'const') return this.#constant(x);
    if (x.kind === 'local') return this.#local(x.name);
    if (x.kind === 'axis') return this.#axis(x.name);
    return this.scopes.cached(`${this.table.info(x).id}${this.scopes.versionsOf(x)}`, () => this.#compute(x));
  }

  /** As value, in all lanes where it is scalar. */
  vector(x: Expr): Reg {
    const scalar = this.value(x);
    if (isVector(scalar)) return scalar;
    const known = x.kind === 'const' ? `${x.dtype}:${x.value}` : `${this.table.info(x).id}${this.scopes.versionsOf(x)}`;
    return this.scopes.cached(`splat ${known}`, () => this.#splat(x, scalar));
  }

  #splat(x: Expr, scalar: Reg): Reg {
    if (x.kind === 'const' && x.dtype !== 'bool') return this.asm.const(vectorType(x.dtype), Number(x.value));
    if (x.dtype !== 'bool') return this.asm.splat(scalar);
    return this.asm.splat(this.asm.op('sub', [this.asm.const('i32', 0), scalar]));
  }

  #constant(x: Extract<Expr, { kind: 'const' }>): Reg {
    return this.asm.const(scalarType(x.dtype), x.value);
  }

  #local(name: string): Reg {
    const binding = this.scopes.binding(localKey(name));
    if (binding?.kind !== 'register') throw new Bug('cpu-unbound', `local ${name} is read before it is set`);
    return binding.reg;
  }

  #axis(name: string): Reg {
    const binding = this.scopes.binding(name);
    if (!binding) throw new Bug('cpu-unbound', `axis ${name} is read outside its loop`);
    switch (binding.kind) {
      case 'register': {
        const { reg, offset = 0 } = binding;
        if (offset === 0) return reg;
        const key = `offset ${this.scopes.version(name)}+${offset}`;
        return this.scopes.cached(key, () => this.asm.op('add', [reg, this.asm.const('i32', offset)]));
      }
      case 'constant':
        return this.asm.const('i32', binding.value);
      case 'lanes':
        return this.scopes.cached(`lanes ${this.scopes.version(name)}+${binding.offset}`, () => {
          return this.asm.op('add', [this.asm.splat(binding.base), this.asm.count(binding.offset)]);
        });
      default:
        return binding satisfies never;
    }
  }

  #compute(x: Expr): Reg {
    switch (x.kind) {
      case 'const':
      case 'axis':
      case 'local':
        return this.value(x);
      case 'load':
        return this.#load(x.buffer, x.index);
      case 'select':
        return this.#select(x);
      case 'binary': {
        const fused = this.#multiplyAdd(x) ?? this.#inRange(x);
        if (fused) return fused;
        break;
      }
      default:
        break;
    }
    if (!this.scopes.varies(x))
      return this.#scalar(
        x,
        children(x).map((child) => this.value(child)),
      );
    if (x.kind === 'binary' && (x.op === 'shl' || x.op === 'shr') && !this.scopes.varies(x.b) && x.dtype === 'i32') {
      return vectorShift(this.asm, x.op, this.vector(x.a), this.value(x.b));
    }
    if (isVectorDType(x.dtype) && children(x).every((child) => isVectorDType(child.dtype))) {
      const done = this.#vectorOp(x);
      if (done) return done;
    }
    return this.#laneByLane(x);
  }

  /** a·b + c, and c - a·b with a constant b, in one rounding where it is floating point: what the loop IR leaves free. */
  #multiplyAdd(x: Extract<Expr, { kind: 'binary' }>): Reg | undefined {
    if ((x.op !== 'add' && x.op !== 'sub') || x.dtype !== 'f32' || !this.scopes.varies(x)) return undefined;
    const isFirst = x.op === 'add' && x.a.kind === 'binary' && x.a.op === 'mul';
    const [product, addend] = isFirst ? [x.a, x.b] : [x.b, x.a];
    if (product.kind !== 'binary' || product.op !== 'mul') return undefined;
    const factor = x.op === 'add' ? product.b : negated(product.b);
    if (!factor) return undefined;
    const a = this.vector(product.a);
    const b = this.vector(factor);
    return this.asm.multiplyAdd(a, b, this.vector(addend));
  }

  /** x >= 0 and x < limit, as one comparison: seen as unsigned, what is below 0 is above every limit. */
  #inRange(x: Extract<Expr, { kind: 'binary' }>): Reg | undefined {
    const least = x.a;
    const most = x.b;
    if (x.op !== 'and' || least.kind !== 'binary' || most.kind !== 'binary') return undefined;
    if (least.op !== 'ge' || most.op !== 'lt' || least.a.dtype !== 'i32' || this.scopes.varies(x)) return undefined;
    if (least.b.kind !== 'const' || least.b.value !== 0) return undefined;
    if (most.b.kind !== 'const' || Number(most.b.value) < 0) return undefined;
    if (this.table.info(least.a).id !== this.table.info(most.a).id) return undefined;
    return this.asm.op('lt_u', [this.value(least.a), this.value(most.b)]);
  }

  #scalar(x: Expr, args: readonly Reg[]): Reg {
    switch (x.kind) {
      case 'unary':
        return scalarUnary(this.asm, x.op, x.x.dtype, args[0]);
      case 'binary':
        return scalarBinary(this.asm, x.op, x.a.dtype, args[0], args[1], {
          nonNegative: x.a.dtype === 'i32' && isNonNegative(x.a),
          ...(x.b.kind === 'const' && Number.isSafeInteger(Number(x.b.value)) && { divisor: Number(x.b.value) }),
        });
      case 'cast':
        return scalarCast(this.asm, x.x.dtype, x.dtype, args[0]);
      case 'bitcast':
        return scalarBitcast(this.asm, x.dtype, args[0]);
      default:
        throw new Bug('cpu-scalar', `${x.kind} is not an operation`);
    }
  }

  #vectorOp(x: Expr): Reg | undefined {
    switch (x.kind) {
      case 'unary':
        return vectorUnary(this.asm, x.op, x.x.dtype, this.vector(x.x));
      case 'binary':
        return this.#clamp(x) ?? vectorBinary(this.asm, x.op, x.a.dtype, this.vector(x.a), this.vector(x.b));
      case 'cast':
        if (wrappedToByte(x)) return wrapped(this.asm, x.dtype, this.#lowestByte(x));
        if (x.dtype === 'i32' && x.x.dtype === 'f32' && clipped(x.x)[1] <= 2 ** 30)
          return this.asm.convert('vi32', this.vector(x.x), { isBelow: true });
        return vectorCast(this.asm, x.x.dtype, x.dtype, this.vector(x.x));
      case 'bitcast': {
        const inner = this.vector(x.x);
        return inner.type === vectorType(x.dtype) ? inner : this.asm.bitcast(vectorType(x.dtype), inner);
      }
      default:
        return undefined;
    }
  }

  /**
   * A vector whose lanes have the lowest byte of x's, whatever lies above it. So a rounded number that is known to fit needs no care for
   * NaN, of which the machine makes an integer that ends in a byte of zeros, as saturation would.
   */
  #lowestByte(x: Expr): Reg {
    const whole = wrappedToByte(x);
    if (whole) return this.#lowestByte(whole);
    if (x.kind === 'binary' && x.op === 'add' && x.dtype === 'i32' && this.scopes.varies(x)) {
      const [a, b] = [x.a, x.b].map((side) => (this.scopes.varies(side) ? this.#lowestByte(side) : this.vector(side)));
      return this.asm.op('add', [a, b]);
    }
    const rounded = x.kind === 'cast' && x.dtype === 'i32' ? x.x : undefined;
    if (rounded?.kind === 'unary' && rounded.op === 'round' && rounded.dtype === 'f32' && fitsInt32(rounded.x)) {
      return this.asm.nearestByte(this.vector(rounded.x));
    }
    return this.vector(x);
  }

  /** min and max with a constant, as x < c ? c : x: NaN stays by itself, so the machine's longer sequence that keeps it is not needed. */
  #clamp(x: Extract<Expr, { kind: 'binary' }>): Reg | undefined {
    if (x.dtype !== 'f32' || (x.op !== 'min' && x.op !== 'max')) return undefined;
    const [value, limit] = x.b.kind === 'const' ? [x.a, x.b] : [x.b, x.a];
    if (limit.kind !== 'const' || Number.isNaN(limit.value)) return undefined;
    const v = this.vector(value);
    const c = this.vector(limit);
    return this.asm.bounded(x.op, v, c);
  }

  /** The scalar operation on each lane in turn. */
  #laneByLane(x: Expr): Reg {
    const args = children(x).map((child) => ({ dtype: child.dtype, reg: this.value(child) }));
    return this.#gather(x.dtype, (lane) =>
      this.#scalar(
        x,
        args.map(({ dtype, reg }) => (isVector(reg) ? this.#extract(dtype, reg, lane) : reg)),
      ),
    );
  }

  #extract(dtype: DType, reg: Reg, lane: number): Reg {
    const raw = this.asm.extract(reg, lane);
    return dtype === 'bool' ? this.asm.op('and', [raw, this.asm.const('i32', 1)]) : raw;
  }

  /** A vector put together from one scalar of the dtype a lane. */
  #gather(dtype: DType, scalarAt: (lane: number) => Reg): Reg {
    if (!isVectorDType(dtype)) throw new Bug('cpu-lanes', `${dtype} does not fit the lanes of a vector`);
    let out = this.asm.splat(scalarAt(0));
    for (let lane = 1; lane < this.asm.lanes; lane++) out = this.asm.insert(out, lane, scalarAt(lane));
    return dtype === 'bool' ? this.asm.op('ne', [out, this.asm.const('vi32', 0)]) : out;
  }

  #select(x: Extract<Expr, { kind: 'select' }>): Reg {
    const { asm } = this;
    const cond = this.value(x.cond);
    const varies = this.scopes.varies(x);
    if (isVector(cond)) {
      for (const shared of this.#neededByBoth(x.a, x.b)) this.value(shared);
      const a = this.#under(x.a, cond, () => this.vector(x.a));
      const b = this.#under(
        x.b,
        () => asm.op('not', [cond]),
        () => this.vector(x.b),
      );
      return asm.select(cond, a, b);
    }
    const get = (branch: Expr) => (varies ? this.vector(branch) : this.value(branch));
    if (!this.table.info(x.a).guarded && !this.table.info(x.b).guarded) {
      const a = get(x.a);
      const b = get(x.b);
      return asm.select(cond, a, b);
    }
    for (const shared of this.#neededByBoth(x.a, x.b)) this.value(shared);
    const out = asm.reg(varies ? vectorType(x.dtype) : scalarType(x.dtype));
    const branch = (side: Expr) => () => this.scopes.scope(() => asm.move(out, get(side)));
    asm.if(cond, branch(x.a), branch(x.b));
    return out;
  }

  /** What each branch evaluates whichever way the conditions inside it go, and the other one too; outermost nodes first found. */
  #neededByBoth(a: Expr, b: Expr): Expr[] {
    const inA = this.#certain(a);
    return [...this.#certain(b)].filter((x) => inA.has(x) && children(x).length > 0).reverse();
  }

  readonly #certainSets = new Map<Expr, ReadonlySet<Expr>>();

  /** The nodes that evaluating x always evaluates. */
  #certain(x: Expr): ReadonlySet<Expr> {
    const known = this.#certainSets.get(x);
    if (known) return known;
    const set = new Set<Expr>();
    const visit = (node: Expr): void => {
      if (set.has(node)) return;
      set.add(node);
      for (const child of node.kind === 'select' ? [node.cond] : children(node)) visit(child);
    };
    visit(x);
    this.#certainSets.set(x, set);
    return set;
  }

  /** Evaluates a branch whose loads may happen only in lanes where the mask is set. */
  #under(branch: Expr, mask: Reg | (() => Reg), evaluate: () => Reg): Reg {
    if (!this.table.info(branch).guarded) return evaluate();
    const outer = this.#mask;
    const own = typeof mask === 'function' ? mask() : mask;
    this.#mask = outer ? this.asm.op('and', [outer, own]) : own;
    try {
      return this.scopes.scope(evaluate);
    } finally {
      this.#mask = outer;
    }
  }

  #load(name: string, index: Expr): Reg {
    const { dtype } = this.#addresses.buffer(name);
    if (!this.scopes.varies(index)) {
      const mask = this.#mask;
      const load = (): Reg => this.#loadScalar(dtype, this.#addresses.of(name, index));
      return mask ? this.#scalarUnder(mask, dtype, load) : load();
    }
    const axis = this.scopes.lanesAxis();
    const stride = axis === undefined ? undefined : this.#addresses.laneStride(index, axis);
    if (this.#mask) return this.#maskedLoads(dtype, this.#mask, this.#laneAddresses(name, index));
    const inLanes = LANE_MEMORY[dtype];
    if (stride === 1 && inLanes) {
      const { base, byteOffset } = this.#addresses.of(name, index);
      return this.asm.load(inLanes, base, byteOffset);
    }
    const at = this.#laneAddresses(name, index);
    return this.#gather(dtype, (lane) => this.#loadScalar(dtype, at(lane)));
  }

  /** The address of each lane's element. */
  #laneAddresses(name: string, index: Expr): (lane: number) => Address {
    const axis = this.scopes.lanesAxis();
    const { dtype, ptr } = this.#addresses.buffer(name);
    const bytes = DTYPES[dtype].bytes;
    const stride = axis === undefined ? undefined : this.#addresses.laneStride(index, axis);
    if (stride !== undefined) {
      const { base, byteOffset } = this.#addresses.of(name, index);
      return (lane) => ({ base, byteOffset: byteOffset + lane * stride * bytes });
    }
    const indices = this.vector(index);
    return (lane) => ({ base: this.asm.address(ptr, this.asm.extract(indices, lane), bytes), byteOffset: 0 });
  }

  /** The scalar where some lane's mask is set, else 0. */
  #scalarUnder(mask: Reg, dtype: DType, load: () => Reg): Reg {
    const { asm } = this;
    let any = asm.extract(mask, 0);
    for (let lane = 1; lane < asm.lanes; lane++) any = asm.op('or', [any, asm.extract(mask, lane)]);
    const out = asm.reg(scalarType(dtype));
    asm.move(out, asm.const(out.type, out.type === 'i64' ? 0n : 0));
    asm.if(any, () => this.scopes.scope(() => asm.move(out, load())));
    return out;
  }

  /** Lanes outside the mask are 0. */
  #maskedLoads(dtype: DType, mask: Reg, addressAt: (lane: number) => Address): Reg {
    const { asm } = this;
    return this.#gather(dtype, (lane) => {
      const out = asm.reg(scalarType(dtype));
      asm.move(out, asm.const(out.type, out.type === 'i64' ? 0n : 0));
      asm.if(asm.extract(mask, lane), () =>
        this.scopes.scope(() => asm.move(out, this.#loadScalar(dtype, this.#wrapped(addressAt(lane))))),
      );
      return out;
    });
  }

  /** The address in one register: lane 0's may lie below the memory where this lane's does not, and an immediate does not wrap around. */
  #wrapped({ base, byteOffset }: Address): Address {
    if (byteOffset === 0) return { base, byteOffset };
    return { base: this.asm.address(base, this.asm.const('i32', byteOffset), 1), byteOffset: 0 };
  }

  #loadScalar(dtype: DType, { base, byteOffset }: Address): Reg {
    const raw = this.asm.load(MEMORY[storageOf(dtype)], base, byteOffset);
    if (dtype === 'f16') return f16ToF32(this.asm, raw);
    if (dtype === 'bf16') return bf16ToF32(this.asm, raw);
    return raw;
  }

  /** The address of buffer[index]; of lane 0's element where the index varies by lane. */
  address(name: string, index: Expr): Address {
    return this.#addresses.of(name, index);
  }

  /** Writes a value (scalar, or a vector if it or the index varies by lane) to buffer[index]. */
  store(name: string, index: Expr, x: Expr): void {
    const { dtype } = this.#addresses.buffer(name);
    const axis = this.scopes.lanesAxis();
    const inLanes = LANE_MEMORY[dtype];
    if (axis !== undefined && inLanes && this.scopes.varies(x) && wrappedToByte(x)) {
      if (this.#addresses.laneStride(index, axis) === 1) {
        const { base, byteOffset } = this.#addresses.of(name, index);
        this.asm.store(inLanes, base, byteOffset, this.#lowestByte(x));
        this.scopes.touch([bufferKey(name)]);
        return;
      }
    }
    const value = this.value(x);
    if (axis === undefined || (!isVector(value) && !this.scopes.varies(index))) {
      this.#storeScalar(dtype, this.#addresses.of(name, index), value);
    } else {
      const stride = this.#addresses.laneStride(index, axis);
      if (stride === 1 && inLanes) {
        const { base, byteOffset } = this.#addresses.of(name, index);
        this.asm.store(inLanes, base, byteOffset, this.vector(x));
      } else {
        const at = this.#laneAddresses(name, index);
        for (let lane = 0; lane < this.asm.lanes; lane++) {
          this.#storeScalar(dtype, at(lane), isVector(value) ? this.#extract(dtype, value, lane) : value);
        }
      }
    }
    this.scopes.touch([bufferKey(name)]);
  }

  #storeScalar(dtype: DType, { base, byteOffset }: Address, value: Reg): void {
    const raw = dtype === 'f16' ? f32ToF16(this.asm, value) : dtype === 'bf16' ? f32ToBf16(this.asm, value) : value;
    this.asm.store(MEMORY[storageOf(dtype)], base, byteOffset, raw);
  }

  /**
   * Computes now what the statements will need and what does not depend on anything they bind, nor on `axes`: call it before a loop
   * is entered. With `inLanes`, scalars that will be operands of vectors are spread over the lanes too. Unless the statements certainly
   * run, none of their loads does.
   */
  prepare(stmts: readonly Stmt[], axes: readonly string[], inLanes = false, areCertain = true): void {
    const changing = new Set([...boundNames(stmts), ...axes]);
    const seenCertain = new Set<Expr>();
    const seen = new Set<Expr>();
    const visit = (x: Expr, certain: boolean, spread: boolean): void => {
      if (seenCertain.has(x) || (!certain && seen.has(x))) return;
      (certain ? seenCertain : seen).add(x);
      if (!this.table.dependsOn(x, changing)) {
        if (this.table.info(x).guarded && !certain) return;
        if (spread && isVectorDType(x.dtype)) this.vector(x);
        else this.value(x);
        return;
      }
      if (x.kind === 'load') this.#addresses.prepare(x.buffer, x.index, changing);
      const vectorOperands = inLanes && x.kind !== 'load';
      children(x).forEach((child, i) => {
        visit(child, certain && !(x.kind === 'select' && i > 0), vectorOperands && !(x.kind === 'select' && i === 0));
      });
    };
    const visitAll = (body: readonly Stmt[], certain: boolean): void => {
      for (const s of body) {
        const runs = certain && loopsOf(s).every((axis) => axis.extent > 0 && !axis.limit);
        if (s.kind === 'store') {
          this.#addresses.prepare(s.buffer, s.index, changing);
          visit(s.value, runs, inLanes);
        } else for (const x of exprsOf(s)) visit(x, runs, inLanes && s.kind !== 'if' && s.kind !== 'scan');
        if (s.kind === 'if') visitAll(s.body, false);
        if (s.kind === 'for' || s.kind === 'scan') visitAll(s.body, runs && !conditionOf(s));
      }
    };
    visitAll(stmts, areCertain);
  }
}

/** The integer of up to 32 bits that x wraps to a byte. */
const wrappedToByte = (x: Expr): Expr | undefined =>
  x.kind === 'cast' && (x.dtype === 'i8' || x.dtype === 'u8') && ['i32', 'i8', 'u8'].includes(x.x.dtype)
    ? x.x
    : undefined;

/** Whether a float is NaN or lies where i32 does, by what clips it. */
function fitsInt32(x: Expr): boolean {
  const [low, high] = clipped(x);
  return low >= -(2 ** 31) && high < 2 ** 31;
}
function clipped(x: Expr): readonly [low: number, high: number] {
  if (x.kind === 'const') return [Number(x.value), Number(x.value)];
  if (x.kind === 'unary' && x.op === 'round') return clipped(x.x);
  if (x.kind === 'binary' && x.op === 'mul' && x.b.kind === 'const' && Number(x.b.value) > 0) {
    const [low, high] = clipped(x.a);
    return [low * Number(x.b.value), high * Number(x.b.value)];
  }
  if (x.kind !== 'binary' || (x.op !== 'min' && x.op !== 'max')) return [Number.NEGATIVE_INFINITY, Infinity];
  const a = clipped(x.a);
  const b = clipped(x.b);
  const pick = x.op === 'min' ? Math.min : Math.max;
  return [pick(a[0], b[0]), pick(a[1], b[1])];
}

/** A constant with the other sign. */
const negated = (x: Expr): Expr | undefined =>
  x.kind === 'const' && typeof x.value === 'number' ? { ...x, value: -x.value } : undefined;

function loopsOf(s: Stmt): readonly Axis[] {
  if (s.kind === 'reduce') return s.axes;
  return s.kind === 'for' || s.kind === 'scan' ? [s.axis] : [];
}
