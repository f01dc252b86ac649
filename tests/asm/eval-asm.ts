/**
 * The assembler's definition in JavaScript: each call computes at once on values, over a memory of its own.
 *
 * A program written against `Asm` runs here and on a machine's assembler; both must leave the same memory. Loops call their body
 * once an iteration, so programs must not keep state of their own between calls. fma rounds twice here, as a machine may.
 */
import type { Asm, AsmOp, MemType, Reg, RegType } from '../../src/targets/cpu/asm.ts';

type Lane = number | bigint;
type Value = Lane | readonly number[];

const isInt = (type: RegType): boolean => type === 'i32' || type === 'i64' || type === 'vi32' || type === 'ptr';
const laneType = (type: RegType): RegType => (type === 'vf32' ? 'f32' : type === 'vi32' ? 'i32' : type);
const isVector = (type: RegType): boolean => type === 'vf32' || type === 'vi32';

/** x as the type holds it: wrapped or rounded. */
function hold(type: RegType, x: Lane): Lane {
  switch (laneType(type)) {
    case 'i32':
    case 'ptr':
      return typeof x === 'bigint' ? Number(BigInt.asIntN(32, x)) : x | 0;
    case 'i64':
      return BigInt.asIntN(64, BigInt(x));
    case 'f32':
      return Math.fround(Number(x));
    default:
      return Number(x);
  }
}

function nearest(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  const rounded = rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
  return Number.isFinite(x) ? (rounded === 0 && (x < 0 || Object.is(x, -0)) ? -0 : rounded) : x;
}

function intOp(op: AsmOp, bits: 32 | 64, isAddress: boolean, x: bigint, y: bigint): bigint {
  const [ux, uy] = [BigInt.asUintN(bits, x), BigInt.asUintN(bits, y)];
  const [a, b] = isAddress ? [ux, uy] : [x, y];
  const count = uy % BigInt(bits);
  const truth = (value: boolean): bigint => (value ? 1n : 0n);
  switch (op) {
    case 'add':
      return x + y;
    case 'sub':
      return x - y;
    case 'mul':
      return x * y;
    case 'div':
      return y === 0n ? 0n : x / y;
    case 'rem':
      return y === 0n ? 0n : x % y;
    case 'div_u':
      return uy === 0n ? 0n : ux / uy;
    case 'rem_u':
      return uy === 0n ? 0n : ux % uy;
    case 'min':
      // biome-ignore lint/complexity/useMathMinMax: Math.min takes no BigInt
      return a < b ? a : b;
    case 'max':
      // biome-ignore lint/complexity/useMathMinMax: Math.max takes no BigInt
      return a > b ? a : b;
    case 'neg':
      return -x;
    case 'abs':
      return x < 0n ? -x : x;
    case 'not':
      return ~x;
    case 'and':
      return x & y;
    case 'or':
      return x | y;
    case 'xor':
      return x ^ y;
    case 'shl':
      return x << count;
    case 'shr':
      return x >> count;
    case 'shr_u':
      return ux >> count;
    case 'eq':
      return truth(x === y);
    case 'ne':
      return truth(x !== y);
    case 'lt':
      return truth(a < b);
    case 'le':
      return truth(a <= b);
    case 'gt':
      return truth(a > b);
    case 'ge':
      return truth(a >= b);
    case 'lt_u':
      return truth(ux < uy);
    case 'gt_u':
      return truth(ux > uy);
    default:
      throw new Error(`no integer ${op}`);
  }
}

function floatOp(op: AsmOp, x: number, y: number): number {
  switch (op) {
    case 'add':
      return x + y;
    case 'sub':
      return x - y;
    case 'mul':
      return x * y;
    case 'div':
      return x / y;
    case 'min':
      return Math.min(x, y);
    case 'max':
      return Math.max(x, y);
    case 'neg':
      return -x;
    case 'abs':
      return Math.abs(x);
    case 'sqrt':
      return Math.sqrt(x);
    case 'floor':
      return Math.floor(x);
    case 'ceil':
      return Math.ceil(x);
    case 'trunc':
      return Math.trunc(x);
    case 'nearest':
      return nearest(x);
    case 'eq':
      return Number(x === y);
    case 'ne':
      return Number(x !== y);
    case 'lt':
      return Number(x < y);
    case 'le':
      return Number(x <= y);
    case 'gt':
      return Number(x > y);
    case 'ge':
      return Number(x >= y);
    default:
      throw new Error(`no float ${op}`);
  }
}

const COMPARISONS: ReadonlySet<AsmOp> = new Set(['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'lt_u', 'gt_u']);

/** Float to integer: truncated, clamped to the range, 0 for NaN. */
function saturate(x: number, bits: number, unsigned: boolean): bigint {
  const [low, high] = unsigned
    ? [0n, 2n ** BigInt(bits) - 1n]
    : [-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits - 1) - 1n];
  if (Number.isNaN(x)) return 0n;
  if (x <= Number(low)) return low;
  return x >= Number(high) ? high : BigInt(Math.trunc(x));
}

function convertLane(from: RegType, to: RegType, x: Lane, unsigned: boolean): Lane {
  if (!isInt(from)) return isInt(to) ? hold(to, saturate(Number(x), to === 'i64' ? 64 : 32, unsigned)) : hold(to, x);
  const bits = from === 'i64' ? 64 : 32;
  const exact = unsigned ? BigInt.asUintN(bits, BigInt(x)) : BigInt(x);
  // A 64-bit integer becomes f32 in one rounding, not by way of f64: round to odd in 54 bits first.
  return isInt(to) ? hold(to, exact) : to === 'f32' ? Math.fround(roundToOdd(exact)) : Number(exact);
}

function roundToOdd(x: bigint): number {
  const magnitude = x < 0n ? -x : x;
  const excess = BigInt(Math.max(0, magnitude.toString(2).length - 50));
  const kept = (magnitude >> excess) | (magnitude & ((1n << excess) - 1n) ? 1n : 0n);
  return Number(x < 0n ? -kept : kept) * 2 ** Number(excess);
}

/** Bytes a lane, and after how many lanes the same come again. */
const BYTES = {
  lanesi8: { count: 1, unsigned: false, every: 64 },
  lanesu8: { count: 1, unsigned: true, every: 64 },
  pairsi8: { count: 2, unsigned: false, every: 64 },
  spreadi8: { count: 2, unsigned: false, every: 4 },
  spreadu8: { count: 2, unsigned: true, every: 4 },
} as const satisfies Partial<Record<MemType, { count: 1 | 2; unsigned: boolean; every: number }>>;

export class EvalAsm implements Asm {
  readonly lanes: number;
  readonly vectorRegisters = 16;
  readonly params: readonly Reg[];
  readonly #memory: DataView;
  readonly #values: Value[] = [];

  constructor(memory: ArrayBuffer, args: readonly number[], lanes = 4) {
    this.lanes = lanes;
    this.#memory = new DataView(memory);
    this.params = args.map((value, i) => this.#new(i < 2 ? 'i32' : 'ptr', value));
  }

  #new(type: RegType, value: Value): Reg {
    return { id: this.#values.push(value) - 1, type };
  }
  #write(type: RegType, value: Value, into?: Reg): Reg {
    if (!into) return this.#new(type, value);
    this.#values[into.id] = value;
    return into;
  }
  #lane(x: Reg, lane = 0): Lane {
    const value = this.#values[x.id];
    if (value === undefined) throw new Error(`register ${x.id} is read before it is written`);
    return typeof value === 'object' ? value[lane] : value;
  }
  #map(type: RegType, f: (lane: number) => Lane, into?: Reg): Reg {
    if (!isVector(type)) return this.#write(type, f(0), into);
    return this.#write(
      type,
      Array.from({ length: this.lanes }, (_, i) => Number(f(i))),
      into,
    );
  }

  const(type: RegType, value: Lane): Reg {
    return this.#map(type, () => hold(type, value));
  }
  reg(type: RegType): Reg {
    const id = this.#values.length;
    this.#values.length++;
    return { id, type };
  }
  move(into: Reg, from: Reg): void {
    this.#values[into.id] = this.#values[from.id];
  }

  op(op: AsmOp, args: readonly Reg[], into?: Reg): Reg {
    const { type } = args[0];
    const compares = COMPARISONS.has(op);
    const result = compares ? (isVector(type) ? 'vi32' : 'i32') : type;
    const one = (lane: number): Lane => {
      const x = this.#lane(args[0], lane);
      const y = args.length > 1 ? this.#lane(args[1], lane) : 0;
      const value = isInt(type)
        ? intOp(op, type === 'i64' ? 64 : 32, type === 'ptr', BigInt(x), BigInt(y))
        : floatOp(op, Number(x), Number(y));
      return compares && isVector(type) ? -Number(value) : hold(result, value);
    };
    return this.#map(result, one, into);
  }
  fma(acc: Reg, a: Reg, b: Reg): void {
    this.op('add', [acc, this.op('mul', [a, b])], acc);
  }
  multiplyAdd(a: Reg, b: Reg, c: Reg): Reg {
    return this.op('add', [this.op('mul', [a, b]), c]);
  }
  dotBytes(acc: Reg, a: Reg, b: Reg): void {
    this.#dot(acc, a, b, 4);
  }
  dotPairs(acc: Reg, a: Reg, b: Reg): void {
    this.#dot(acc, a, b, 2);
  }
  #dot(acc: Reg, a: Reg, b: Reg, parts: 2 | 4): void {
    const bits = 32 / parts;
    const part = (x: Lane, i: number, unsigned: boolean): bigint =>
      BigInt[unsigned ? 'asUintN' : 'asIntN'](bits, BigInt(x) >> BigInt(bits * i));
    const one = (lane: number): Lane => {
      let sum = BigInt(this.#lane(acc, lane));
      for (let i = 0; i < parts; i++) {
        sum += part(this.#lane(a, lane), i, parts === 4) * part(this.#lane(b, lane), i, false);
      }
      return hold('i32', sum);
    };
    this.#map('vi32', one, acc);
  }
  repeatLane(x: Reg, lane: number): Reg {
    return this.#map(x.type, (i) => this.#lane(x, i - (i % 4) + lane));
  }
  swapFours(x: Reg): Reg {
    return this.#map(x.type, (i) => this.#lane(x, i ^ 4));
  }
  select(cond: Reg, a: Reg, b: Reg, into?: Reg): Reg {
    return this.#map(a.type, (lane) => (this.#lane(cond, lane) ? this.#lane(a, lane) : this.#lane(b, lane)), into);
  }
  bounded(op: 'min' | 'max', x: Reg, limit: Reg): Reg {
    return this.select(this.op(op === 'max' ? 'lt' : 'gt', [x, limit]), limit, x);
  }
  convert(to: RegType, x: Reg, options: { readonly unsigned?: boolean } = {}): Reg {
    const unsigned = options.unsigned ?? false;
    return this.#map(to, (lane) => convertLane(laneType(x.type), laneType(to), this.#lane(x, lane), unsigned));
  }
  nearestByte(x: Reg): Reg {
    return this.convert('vi32', this.op('nearest', [x]));
  }
  bitcast(to: RegType, x: Reg): Reg {
    const bytes = new DataView(new ArrayBuffer(8));
    const one = (lane: number): Lane => {
      put(bytes, laneType(x.type) as MemType, 0, this.#lane(x, lane));
      return get(bytes, laneType(to) as MemType, 0);
    };
    return this.#map(to, one);
  }
  splat(x: Reg): Reg {
    return this.#map(x.type === 'f32' ? 'vf32' : 'vi32', () => this.#lane(x));
  }
  count(first: number): Reg {
    return this.#map('vi32', (lane) => first + lane);
  }
  extract(x: Reg, lane: number): Reg {
    return this.#new(laneType(x.type), this.#lane(x, lane));
  }
  insert(x: Reg, lane: number, value: Reg, into?: Reg): Reg {
    return this.#map(x.type, (i) => (i === lane ? this.#lane(value) : this.#lane(x, i)), into);
  }
  horizontal(op: 'add' | 'mul' | 'min' | 'max', x: Reg): Reg {
    let out = this.extract(x, 0);
    for (let lane = 1; lane < this.lanes; lane++) out = this.op(op, [out, this.extract(x, lane)]);
    return out;
  }

  address(base: Reg, index: Reg, scale: number): Reg {
    return this.#new('ptr', (Number(this.#lane(base)) + Math.imul(Number(this.#lane(index)), scale)) | 0);
  }
  load(type: MemType, base: Reg, byteOffset: number, into?: Reg): Reg {
    const at = Number(this.#lane(base)) + byteOffset;
    const bytes = BYTES[type as 'lanesi8'];
    if (bytes) return this.#map('vi32', (lane) => this.#widened(at + bytes.count * (lane % bytes.every), bytes), into);
    const splats = type === 'splatf32' || type === 'splati32';
    const element = ({ vf32: 'f32', vi32: 'i32', splatf32: 'f32', splati32: 'i32' } as const)[type as 'vf32'] ?? type;
    const narrow = type === 'i8' || type === 'u8' || type === 'i16' || type === 'u16';
    const reg = splats ? (`v${element}` as RegType) : narrow ? 'i32' : (type as RegType);
    return this.#map(reg, (lane) => get(this.#memory, element, at + (splats ? 0 : 4 * lane)), into);
  }
  /** `count` bytes from `at` on, each in its share of 32 bits. */
  #widened(at: number, { count, unsigned }: (typeof BYTES)['lanesi8']): number {
    const one = (i: number): number => Number(get(this.#memory, unsigned ? 'u8' : 'i8', at + i));
    return count === 1 ? one(0) : (one(0) & 0xffff) | (one(1) << 16);
  }
  prefetch(): void {}

  store(type: MemType, base: Reg, byteOffset: number, value: Reg): void {
    const at = Number(this.#lane(base)) + byteOffset;
    if (type === 'lanesi8' || type === 'lanesu8') {
      for (let i = 0; i < this.lanes; i++) put(this.#memory, 'i8', at + i, this.#lane(value, i));
      return;
    }
    if (type !== 'vf32' && type !== 'vi32') put(this.#memory, type, at, this.#lane(value));
    else
      for (let i = 0; i < this.lanes; i++)
        put(this.#memory, type === 'vf32' ? 'f32' : 'i32', at + 4 * i, this.#lane(value, i));
  }

  loop(from: Reg, to: Reg, step: number, body: (i: Reg) => void, goesOn?: (i: Reg) => Reg): void {
    const [first, last] = [Number(this.#lane(from)), Number(this.#lane(to))];
    for (let i = first; i < last; i += step) {
      const counter = this.#new('i32', i);
      if (goesOn && !this.#lane(goesOn(counter))) return;
      body(counter);
    }
  }
  repeat(count: number, body: () => void): void {
    for (let i = 0; i < count; i++) body();
  }
  if(cond: Reg, then: () => void, otherwise?: () => void): void {
    if (this.#lane(cond)) then();
    else otherwise?.();
  }
}

function get(view: DataView, type: MemType, at: number): Lane {
  switch (type) {
    case 'i8':
      return view.getInt8(at);
    case 'u8':
      return view.getUint8(at);
    case 'i16':
      return view.getInt16(at, true);
    case 'u16':
      return view.getUint16(at, true);
    case 'i32':
      return view.getInt32(at, true);
    case 'i64':
      return view.getBigInt64(at, true);
    case 'f32':
      return view.getFloat32(at, true);
    case 'f64':
      return view.getFloat64(at, true);
    default:
      throw new Error(`no element ${type}`);
  }
}

function put(view: DataView, type: MemType, at: number, value: Lane): void {
  switch (type) {
    case 'i8':
    case 'u8':
      view.setInt8(at, Number(value));
      return;
    case 'i16':
    case 'u16':
      view.setInt16(at, Number(value), true);
      return;
    case 'i32':
      view.setInt32(at, Number(value), true);
      return;
    case 'i64':
      view.setBigInt64(at, BigInt(value), true);
      return;
    case 'f32':
      view.setFloat32(at, Number(value), true);
      return;
    case 'f64':
      view.setFloat64(at, Number(value), true);
      return;
    default:
      throw new Error(`no element ${type}`);
  }
}
