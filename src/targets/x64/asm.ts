/**
 * The vector assembler over x86-64 with AVX2, FMA and BMI2: 8 lanes, code for one kernel.
 *
 * In come the calls of `Asm`, recorded as instructions over virtual registers; `finish` folds, assigns registers and appends the kernel's
 * function to an encoder. Kernels of one program share the encoder and with it the pool of constants. The convention of a kernel is
 * stated in frame.ts: edi begin, esi end, rdx the array of buffer addresses. Addresses are 64-bit; an i32 index extends its sign.
 */
import { Bug } from '../../core/errors.ts';
import type { Asm, AsmOp, MemType, Reg, RegType } from '../cpu/asm.ts';
import { allocate } from './allocate.ts';
import { Builder, fitsInt32, isVectorType, VECTOR_LANES } from './builder.ts';
import { convert } from './convert.ts';
import { type Encoder, imm, type Label, type Memory, mem, type RegisterKind, r32, r64 } from './encode.ts';
import { floatOp, suffixOf } from './float-ops.ts';
import { BEGIN, BUFFERS, END, encodeFunction } from './frame.ts';
import { type InstructionName, inverse } from './instructions.ts';
import { integerOp } from './integer-ops.ts';
import { extractLane, horizontal, insertLane, splat } from './lane-ops.ts';
import { foldLoads, removeDead } from './optimize.ts';
import { vectorIntegerOp } from './vector-integer-ops.ts';

/** What its code uses of a processor. Tactics for more (vectors of 512 bits) have no code here and must not be offered. */
export const ASM_FEATURES: ReadonlySet<string> = new Set(['avx', 'f16c', 'fma', 'avx2', 'bmi2']);

interface Access {
  readonly reg: RegType;
  readonly load: InstructionName;
  /** The register as the load writes it. */
  readonly into: RegisterKind;
  readonly store: InstructionName | undefined;
  readonly from: RegisterKind;
}
const access = (
  reg: RegType,
  load: InstructionName,
  into: RegisterKind,
  store?: InstructionName,
  from = into,
): Access => ({ reg, load, into, store, from });

const ACCESSES: Readonly<Record<MemType, Access>> = {
  i8: access('i32', 'movsx_8', 'r32', 'mov_mr8', 'r8'),
  u8: access('i32', 'movzx_8', 'r32', 'mov_mr8', 'r8'),
  i16: access('i32', 'movsx_16', 'r32', 'mov_mr16', 'r16'),
  u16: access('i32', 'movzx_16', 'r32', 'mov_mr16', 'r16'),
  i32: access('i32', 'mov', 'r32', 'mov_mr'),
  i64: access('i64', 'mov', 'r64', 'mov_mr'),
  f32: access('f32', 'vmovss', 'xmm', 'vmovss_mr'),
  f64: access('f64', 'vmovsd', 'xmm', 'vmovsd_mr'),
  vf32: access('vf32', 'vmovups', 'ymm', 'vmovups_mr'),
  vi32: access('vi32', 'vmovups', 'ymm', 'vmovups_mr'),
  splatf32: access('vf32', 'vbroadcastss', 'ymm'),
  splati32: access('vi32', 'vbroadcastss', 'ymm'),
};

/** An address not yet computed: good as long as neither register was written, and in the loop where it was made. */
interface Sum {
  readonly base: number;
  readonly index: number | undefined;
  readonly scale: 1 | 2 | 4 | 8;
  readonly disp: number;
  readonly versions: readonly [number, number];
  readonly loop: number;
}
/** A float comparison: its sources, as long as neither was written. */
interface Comparison {
  /** The one compared as greater, then the other. */
  readonly sources: readonly [Reg, Reg];
  readonly versions: readonly [number, number];
}
interface Extended {
  readonly wide: number;
  readonly version: number;
  readonly loop: number;
}

export class X64Asm implements Asm {
  readonly lanes = VECTOR_LANES;
  readonly vectorRegisters = 16;
  readonly params: readonly Reg[];
  readonly #b: Builder;
  readonly #sums = new Map<number, Sum>();
  readonly #comparisons = new Map<number, Comparison>();
  /** 64-bit products of an i32 register and a factor. */
  #extended: Map<string, Extended> = new Map();
  /** Loop counters from 0 or above: their upper halves are zero. */
  readonly #isCounter = new Set<number>();

  /** A kernel over `buffers` buffers, appended to `encoder` by finish. */
  constructor(encoder: Encoder, buffers: number) {
    this.#b = new Builder(encoder);
    const b = this.#b;
    this.params = Array.from({ length: 2 + buffers }, (_, i) => b.reg(i < 2 ? 'i32' : 'ptr'));
    const [begin, end, ...pointers] = this.params;
    b.emit('mov', r64(begin.id), r64(BEGIN));
    b.emit('mov', r64(end.id), r64(END));
    pointers.forEach((pointer, i) => {
      b.emit('mov', r64(pointer.id), mem(BUFFERS, 8 * i));
    });
  }

  /** Appends the function; its entry. Align the encoder before: loops are aligned to 32 bytes. */
  finish(): Label {
    const { code } = this.#b;
    removeDead(code);
    foldLoads(code);
    return encodeFunction(code, allocate(code));
  }

  const(type: RegType, value: number | bigint): Reg {
    return this.#b.constant(type, value);
  }
  reg(type: RegType): Reg {
    return this.#b.reg(type);
  }
  move(into: Reg, from: Reg): void {
    this.#b.move(into, from);
  }

  op(op: AsmOp, args: readonly Reg[], into?: Reg): Reg {
    switch (args[0].type) {
      case 'i32':
      case 'i64':
      case 'ptr':
        return integerOp(this.#b, op, args, into);
      case 'f32':
      case 'f64':
      case 'vf32': {
        const result = floatOp(this.#b, op, args, into);
        if ((op === 'lt' || op === 'gt') && !into) this.#remember(op, args, result);
        return result;
      }
      case 'vi32':
        return vectorIntegerOp(this.#b, op, args, into);
      default:
        return args[0].type satisfies never;
    }
  }

  #remember(op: 'lt' | 'gt', [x, y]: readonly Reg[], result: Reg): void {
    const { code } = this.#b;
    // As greater than: y < x.
    const sources = op === 'gt' ? ([x, y] as const) : ([y, x] as const);
    this.#comparisons.set(result.id, { sources, versions: [code.version(sources[0].id), code.version(sources[1].id)] });
  }

  /** x > y ? x : y and x > y ? y : x are vmaxps and vminps as they are, NaN and zeros included (Intel's manual, volume 2, MAXPS). */
  #selectExtremum(cond: Reg, a: Reg, b: Reg, result: Reg): boolean {
    const comparison = this.#comparisons.get(cond.id);
    if (!comparison || a.type !== comparison.sources[0].type) return false;
    const builder = this.#b;
    const { sources, versions } = comparison;
    const [greater, less] = sources;
    if (sources.some(({ id }, i) => builder.code.version(id) !== versions[i])) return false;
    const suffix = suffixOf(a.type);
    const isSame = (x: Reg, y: Reg): boolean =>
      x.id === y.id || (builder.known(x) !== undefined && Object.is(builder.known(x), builder.known(y)));
    if (isSame(a, greater) && isSame(b, less))
      builder.emit(`vmax${suffix}`, builder.into(result), builder.use(greater), builder.source(less));
    else if (isSame(a, less) && isSame(b, greater))
      builder.emit(`vmin${suffix}`, builder.into(result), builder.use(less), builder.source(greater));
    else return false;
    return true;
  }

  fma(acc: Reg, a: Reg, b: Reg): void {
    const [x, y] = this.#b.known(a) === undefined ? [a, b] : [b, a];
    this.#b.emit(`vfmadd231${suffixOf(acc.type)}`, this.#b.into(acc), this.#b.use(x), this.#b.source(y));
  }

  select(cond: Reg, a: Reg, b: Reg, into?: Reg): Reg {
    const builder = this.#b;
    const result = builder.result(a.type, into);
    if (this.#selectExtremum(cond, a, b, result)) return result;
    if (cond.type === 'vi32') {
      builder.emit('vblendvps', builder.into(result), builder.use(b), builder.source(a), builder.use(cond));
      return result;
    }
    if (isVectorType(a.type) || a.type === 'f32' || a.type === 'f64') {
      this.#selectByFlag(cond, a, b, result);
      return result;
    }
    const condition = builder.testTruth(cond);
    const [whenTrue, target] = [builder.use(a), builder.reg(a.type)];
    builder.move(target, b);
    builder.emit(`cmov${condition}`, builder.into(target), whenTrue);
    builder.move(result, target);
    return result;
  }

  /** A flag as a mask: 0 or -1, in all lanes where the values are vectors. */
  #selectByFlag(cond: Reg, a: Reg, b: Reg, result: Reg): void {
    const builder = this.#b;
    const truth = this.op('ne', [cond, builder.constant('i32', 0)]);
    const negative = this.op('neg', [{ ...truth, type: 'i64' }]);
    const mask = builder.into(builder.reg('f64'));
    builder.emit('vmovq', mask, builder.into(negative));
    const kind = builder.into(result).kind;
    const lanes = { kind, n: mask.n };
    if (isVectorType(a.type)) builder.emit('vpbroadcastd', lanes, mask);
    builder.emit('vblendvps', builder.into(result), builder.use(b), builder.use(a), lanes);
  }

  convert(to: RegType, x: Reg, options: { readonly unsigned?: boolean } = {}): Reg {
    return convert(this.#b, this, to, x, options.unsigned ?? false);
  }

  bitcast(to: RegType, x: Reg): Reg {
    const b = this.#b;
    const result = b.reg(to);
    const source = b.use(x);
    const [from, into] = [source.kind, b.into(result).kind];
    if (from === into) b.copy(result.id, source.n, to);
    else if (into === 'xmm') b.emit(from === 'r64' ? 'vmovq' : 'vmovd', b.into(result), source);
    else if (from === 'xmm') b.emit(into === 'r64' ? 'vmovq_mr' : 'vmovd_mr', b.into(result), source);
    else throw new Bug('asm-op', `the assembler has no bitcast of ${x.type} to ${to} on x64`);
    return result;
  }

  splat(x: Reg): Reg {
    return splat(this.#b, x);
  }
  extract(x: Reg, lane: number): Reg {
    return extractLane(this.#b, x, lane);
  }
  insert(x: Reg, lane: number, value: Reg, into?: Reg): Reg {
    return insertLane(this.#b, x, lane, value, into);
  }
  horizontal(op: 'add' | 'mul' | 'min' | 'max', x: Reg): Reg {
    return horizontal(this.#b, x, (a, b) => this.op(op, [a, b]));
  }

  address(base: Reg, index: Reg, scale: number): Reg {
    const b = this.#b;
    const result = b.reg('ptr');
    const origin = b.use(base).n;
    const known = b.known(index);
    if (known !== undefined && fitsInt32(Number(known) * scale)) {
      this.#defineSum(result, origin, undefined, 1, Number(known) * scale);
      return result;
    }
    if (scale === 1 || scale === 2 || scale === 4 || scale === 8)
      this.#defineSum(result, origin, this.#wideIndex(index, 1), scale, 0);
    else this.#defineSum(result, origin, this.#wideIndex(index, scale), 1, 0);
    return result;
  }

  #defineSum(result: Reg, base: number, index: number | undefined, scale: 1 | 2 | 4 | 8, disp: number): void {
    const { code } = this.#b;
    // Emitted in any case: it is dropped as dead where all accesses took the sum into their own address.
    this.#b.emit('lea', this.#b.into(result), mem(base, disp, index, scale));
    const versions = [code.version(base), index === undefined ? 0 : code.version(index)] as const;
    this.#sums.set(result.id, { base, index, scale, disp, versions, loop: code.loop });
  }

  /** A 64-bit register with the sign-extended index times `factor`; the same one where it was made before in this loop. */
  #wideIndex(index: Reg, factor: number): number {
    const b = this.#b;
    const { code } = b;
    if (factor === 1 && (this.#isCounter.has(index.id) || index.type !== 'i32')) return b.use(index).n;
    if (b.known(index) !== undefined) return this.#widened(b.use(index).n, index.type, factor);
    const key = `${index.id} ${factor}`;
    const version = code.version(index.id);
    const made = this.#extended.get(key);
    if (made?.version === version && made.loop === code.loop) return made.wide;
    const wide = this.#widened(
      factor === 1 ? index.id : this.#wideIndex(index, 1),
      factor === 1 ? 'i32' : 'i64',
      factor,
    );
    this.#extended.set(key, { wide, version, loop: code.loop });
    return wide;
  }

  #widened(index: number, type: RegType, factor: number): number {
    const b = this.#b;
    const wide = b.into(b.reg('i64'));
    if (type === 'i32') b.emit('movsxd', wide, r32(index));
    if (factor !== 1) b.emit('imul_i', wide, type === 'i32' ? wide : r64(index), imm(factor));
    return wide.n;
  }

  #memory(base: Reg, byteOffset: number): Memory {
    const { code } = this.#b;
    const sum = this.#sums.get(base.id);
    if (sum && sum.loop === code.loop && code.version(base.id) === 1) {
      const { versions, index } = sum;
      const isCurrent =
        code.version(sum.base) === versions[0] && (index === undefined || code.version(index) === versions[1]);
      if (isCurrent) return mem(sum.base, sum.disp + byteOffset, index, sum.scale);
    }
    return mem(this.#b.use(base).n, byteOffset);
  }

  load(type: MemType, base: Reg, byteOffset: number, into?: Reg): Reg {
    const { load, reg, into: kind } = ACCESSES[type];
    const result = into ?? this.reg(reg);
    this.#b.emit(load, { kind, n: result.id }, this.#memory(base, byteOffset));
    return result;
  }

  store(type: MemType, base: Reg, byteOffset: number, value: Reg): void {
    const { store, from } = ACCESSES[type];
    if (!store) throw new Bug('asm-op', `${type} is a form of load only`);
    const source = this.#b.use(value);
    this.#b.emit(store, this.#memory(base, byteOffset), { kind: from, n: source.n });
  }

  /** i = from; if (i < to) do { body; i += step } while (i < to). */
  loop(from: Reg, to: Reg, step: number, body: (i: Reg) => void): void {
    const b = this.#b;
    const { code } = b;
    const [first, last] = [b.known(from), b.known(to)];
    if (first !== undefined && last !== undefined && first >= last) return;
    const i = this.reg('i32');
    b.move(i, from);
    if ((first !== undefined && first >= 0) || this.#isCounter.has(from.id)) this.#isCounter.add(i.id);
    let limit = to;
    if (last === undefined) {
      limit = this.reg('i32');
      b.move(limit, to);
    }
    const compare = (): void => {
      if (last === undefined) b.emit('cmp', b.into(i), b.into(limit));
      else b.emit('cmp_i', b.into(i), imm(last));
    };
    const end = code.encoder.newLabel();
    if (first === undefined || last === undefined) {
      compare();
      b.emit('jge', end);
    }
    const head = code.openLoop();
    body(i);
    b.emit('add_i', b.into(i), imm(step));
    compare();
    b.emit('jl', head);
    code.closeLoop();
    code.bind(end);
  }

  repeat(count: number, body: () => void): void {
    if (count === 1) body();
    else this.loop(this.const('i32', 0), this.const('i32', count), 1, body);
  }

  if(cond: Reg, then: () => void, otherwise?: () => void): void {
    const b = this.#b;
    const { code } = b;
    const condition = b.testTruth(cond);
    const [orElse, end] = [code.encoder.newLabel(), code.encoder.newLabel()];
    b.emit(`j${inverse(condition)}`, orElse);
    this.#inBranch(then);
    if (otherwise) b.emit('jmp', end);
    code.bind(orElse);
    if (otherwise) this.#inBranch(otherwise);
    code.bind(end);
  }

  /** What a branch computes is not known after it. */
  #inBranch(emit: () => void): void {
    const before = new Map(this.#extended);
    emit();
    this.#extended = before;
  }
}
