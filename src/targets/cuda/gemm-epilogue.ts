/**
 * What follows the sum of a matrix product: the epilogue's statements for a run of columns of one row, in float32.
 *
 * In come the sums of `width` neighbouring columns in registers. A load that is contiguous along the columns becomes vector loads, one
 * that does not move with them is loaded once; stores likewise. Epilogues with other indices than affine ones, or that compute with
 * integers, are refused (undefined), and such kernels run on other templates.
 */
import { DTYPES, type DType } from '../../core/dtype.ts';
import { toAffine } from '../../loop/affine.ts';
import type { Affine, Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { eachExpr, eachStmt } from '../cpu/walk.ts';
import type { Linear } from './gemm-plan.ts';
import { floatBits, linearSum, type PtxText } from './ptx-text.ts';

export interface EpiloguePlace {
  /** Axis names to the registers that hold their values; the column axis holds the first column. */
  readonly digits: ReadonlyMap<string, string>;
  /** The axis that columns run along; undefined where there is one column only. */
  readonly column: Axis | undefined;
  /** Columns between the one in `digits` and the first one here: places that differ by this alone share their addresses. */
  readonly shift?: number;
  /** Columns at once: 8 where all are inside, else 1. */
  readonly width: number;
  /** Buffer names to the registers that hold their addresses. */
  readonly pointers: ReadonlyMap<string, string>;
  /** Names of the buffers that begin at a multiple of 16 bytes. */
  readonly aligned: ReadonlySet<string>;
}

const FLOATS: ReadonlySet<DType> = new Set<DType>(['f32', 'f16', 'bf16']);

const UNARY: Readonly<Record<string, string>> = {
  neg: 'neg.f32',
  abs: 'abs.f32',
  sqrt: 'sqrt.rn.f32',
  floor: 'cvt.rmi.f32.f32',
  ceil: 'cvt.rpi.f32.f32',
  trunc: 'cvt.rzi.f32.f32',
  round: 'cvt.rni.f32.f32',
};
const BINARY: Readonly<Record<string, string>> = {
  add: 'add.f32',
  sub: 'sub.f32',
  mul: 'mul.f32',
  div: 'div.full.f32',
  min: 'min.NaN.f32',
  max: 'max.NaN.f32',
};
const COMPARE: Readonly<Record<string, string>> = { eq: 'eq', ne: 'neu', lt: 'lt', le: 'le', gt: 'gt', ge: 'ge' };
const FUNCTIONS: ReadonlySet<string> = new Set(['exp', 'log', 'tanh', 'erf']);
const LOGIC: ReadonlySet<string> = new Set(['and', 'or', 'xor']);

/** Whether `emitEpilogue` can write the statements. */
export function canEmitEpilogue(epilogue: readonly Stmt[], axes: ReadonlySet<string>): boolean {
  const isAffine = (x: Expr): boolean => toAffine(x)?.terms.every((t) => axes.has(t.axis)) ?? false;
  const value = (x: Expr): boolean => {
    switch (x.kind) {
      case 'const':
        return FLOATS.has(x.dtype) || x.dtype === 'bool';
      case 'local':
        return FLOATS.has(x.dtype);
      case 'load':
        return FLOATS.has(x.dtype) && isAffine(x.index);
      case 'cast':
        return FLOATS.has(x.dtype) && value(x.x);
      case 'unary':
        return (
          (FLOATS.has(x.dtype) && (x.op in UNARY || FUNCTIONS.has(x.op)) && value(x.x)) ||
          (x.op === 'not' && value(x.x))
        );
      case 'binary':
        if (x.dtype === 'bool')
          return ((x.op in COMPARE && FLOATS.has(x.a.dtype)) || LOGIC.has(x.op)) && value(x.a) && value(x.b);
        return FLOATS.has(x.dtype) && x.op in BINARY && value(x.a) && value(x.b);
      case 'select':
        return FLOATS.has(x.dtype) && value(x.cond) && value(x.a) && value(x.b);
      default:
        return false;
    }
  };
  return epilogue.every(
    (s) => (s.kind === 'store' && isAffine(s.index) && value(s.value)) || (s.kind === 'let' && value(s.value)),
  );
}

/** The indices of all its loads and stores. */
export function epilogueIndices(epilogue: readonly Stmt[]): Linear[] {
  const found: Linear[] = [];
  const add = (index: Expr): void => {
    const affine = toAffine(index);
    if (affine) found.push({ coefs: new Map(affine.terms.map((t) => [t.axis, t.coef])), constant: affine.constant });
  };
  eachStmt(epilogue, (s) => {
    if (s.kind === 'store') add(s.index);
  });
  eachExpr(epilogue, (x) => {
    if (x.kind === 'load') add(x.index);
  });
  return found;
}

/** What a load has brought, before it is widened. */
interface Raw {
  readonly dtype: DType;
  /** Pairs of 16-bit elements, or elements. */
  readonly packed: boolean;
  readonly regs: readonly string[];
}

/** Raw loads that several epilogues of a thread share, by buffer and place. */
export type SharedLoads = Map<string, Raw>;

export class Epilogue {
  readonly #w: PtxText;
  readonly #place: EpiloguePlace;
  readonly #statements: readonly Stmt[];
  readonly #dtypes: ReadonlyMap<string, DType>;
  readonly #locals = new Map<string, readonly string[]>();
  readonly #done = new Map<Expr, readonly string[]>();
  readonly #loaded: SharedLoads;

  /** `loaded`: what other epilogues of the thread have loaded already; gets what this one preloads. */
  constructor(w: PtxText, kernel: Kernel, statements: readonly Stmt[], place: EpiloguePlace, loaded: SharedLoads) {
    this.#w = w;
    this.#place = place;
    this.#statements = statements;
    this.#loaded = loaded;
    this.#dtypes = new Map(kernel.buffers.map((b) => [b.name, b.dtype]));
  }

  /** Loads ahead of `run` what `wants` of the buffers' loads, told whether a load moves with the row. */
  preload(wants: (movesWithRow: boolean) => boolean): void {
    eachExpr(this.#statements, (x) => {
      if (x.kind !== 'load') return;
      const { key, movesWithRow } = this.#keyOf(x.buffer, x.index);
      if (!this.#loaded.has(key) && wants(movesWithRow)) this.#loaded.set(key, this.#raw(x.buffer, x.index));
    });
  }

  /** Writes the epilogue for the columns whose sums are in `acc`. */
  run(acc: readonly string[]): void {
    this.#locals.set('acc', acc);
    for (const s of this.#statements) {
      if (s.kind === 'let') {
        this.#locals.set(s.local, this.#value(s.value));
        this.#done.clear();
      } else if (s.kind === 'store') this.#store(s.buffer, s.index, this.#value(s.value));
    }
  }

  /** Tells loads apart: the buffer, and the registers and coefficients of the place. */
  #keyOf(buffer: string, index: Expr): { key: string; movesWithRow: boolean } {
    const { digits, column } = this.#place;
    const { terms, constant } = toAffine(index) as Affine;
    const moving = terms.filter((t) => digits.has(t.axis));
    const shift = moving.some((t) => t.axis === column?.name) ? (this.#place.shift ?? 0) : 0;
    return {
      key: `${buffer} ${shift} ${moving.map((t) => `${digits.get(t.axis)}*${t.coef}`).join('+')}+${constant}`,
      movesWithRow: moving.some((t) => t.axis !== column?.name),
    };
  }

  /** A register for each column. */
  #value(x: Expr): readonly string[] {
    const known = this.#done.get(x);
    if (known) return known;
    const out = this.#make(x);
    this.#done.set(x, out);
    return out;
  }

  #make(x: Expr): readonly string[] {
    const w = this.#w;
    const each = (f: (j: number) => string): string[] => Array.from({ length: this.#place.width }, (_, j) => f(j));
    switch (x.kind) {
      case 'const': {
        if (x.dtype === 'bool') {
          const p = w.op('pred', 'setp.ne.s32', Number(x.value), 0);
          return each(() => p);
        }
        return each(() => floatBits(Number(x.value)));
      }
      case 'local':
        return this.#locals.get(x.name) as readonly string[];
      case 'load':
        return this.#load(x.buffer, x.index);
      case 'cast': {
        const from = this.#value(x.x);
        return x.x.dtype === 'bool' ? each((j) => w.op('f32', 'selp.f32', floatBits(1), floatBits(0), from[j])) : from;
      }
      case 'unary': {
        const a = this.#value(x.x);
        if (x.op === 'not') return each((j) => w.op('pred', 'not.pred', a[j]));
        if (x.op === 'exp')
          return each((j) => w.op('f32', 'ex2.approx.f32', w.op('f32', 'mul.f32', a[j], floatBits(Math.LOG2E))));
        if (x.op === 'log')
          return each((j) => w.op('f32', 'mul.f32', w.op('f32', 'lg2.approx.f32', a[j]), floatBits(Math.LN2)));
        if (x.op === 'tanh') return each((j) => this.#tanh(a[j]));
        if (x.op === 'erf') return each((j) => this.#erf(a[j]));
        return each((j) => w.op('f32', UNARY[x.op], a[j]));
      }
      case 'binary': {
        const [a, b] = [this.#value(x.a), this.#value(x.b)];
        if (LOGIC.has(x.op)) return each((j) => w.op('pred', `${x.op}.pred`, a[j], b[j]));
        if (x.dtype === 'bool') return each((j) => w.op('pred', `setp.${COMPARE[x.op]}.f32`, a[j], b[j]));
        return each((j) => w.op('f32', BINARY[x.op], a[j], b[j]));
      }
      case 'select': {
        const [p, a, b] = [this.#value(x.cond), this.#value(x.a), this.#value(x.b)];
        return each((j) => w.op('f32', 'selp.f32', a[j], b[j], p[j]));
      }
      default:
        throw new Error(`epilogue: ${x.kind}`);
    }
  }

  /** 1 - 2 / (e^2x + 1): exact at both ends, as accurate as the exponential between. */
  #tanh(x: string): string {
    const w = this.#w;
    const e = w.op('f32', 'ex2.approx.f32', w.op('f32', 'mul.f32', x, floatBits(2 * Math.LOG2E)));
    const r = w.op('f32', 'rcp.approx.f32', w.op('f32', 'add.f32', e, floatBits(1)));
    return w.op('f32', 'fma.rn.f32', r, floatBits(-2), floatBits(1));
  }

  /**
   * 1 - t·(a1 + t·(a2 + …))·e^(-x²) with t = 1 / (1 + p·|x|) and the sign of x: Abramowitz and Stegun 7.1.26, off by less than 1.5e-7.
   */
  #erf(x: string): string {
    const w = this.#w;
    const size = w.op('f32', 'abs.f32', x);
    const t = w.op('f32', 'rcp.approx.f32', w.op('f32', 'fma.rn.f32', size, floatBits(0.3275911), floatBits(1)));
    const series = [-1.453152027, 1.421413741, -0.284496736, 0.254829592].reduce(
      (sum, a) => w.op('f32', 'fma.rn.f32', sum, t, floatBits(a)),
      w.op('f32', 'mov.f32', floatBits(1.061405429)),
    );
    const square = w.op('f32', 'mul.f32', size, size);
    const decay = w.op('f32', 'ex2.approx.f32', w.op('f32', 'mul.f32', square, floatBits(-Math.LOG2E)));
    const rest = w.op('f32', 'mul.f32', w.op('f32', 'mul.f32', series, t), decay);
    return w.op('f32', 'copysign.f32', x, w.op('f32', 'sub.f32', floatBits(1), rest));
  }

  /** The address of the first column's element (a register and bytes), and how many elements a column is away from the one before. */
  #address(buffer: string, index: Expr): { pointer: string; from: number; stride: number; vector: boolean } {
    const w = this.#w;
    const { digits, column, width, pointers, shift = 0 } = this.#place;
    const affine = toAffine(index) as Affine;
    const bytes = DTYPES[this.#dtypes.get(buffer) as DType].bytes;
    const terms = affine.terms.filter((t) => digits.has(t.axis));
    const offset = linearSum(
      w,
      terms.map((t) => [digits.get(t.axis) as string, t.coef]),
      affine.constant,
    );
    const pointer = w.op('b64', 'mad.wide.s32', offset, bytes, pointers.get(buffer) as string);
    const stride = terms.filter((t) => t.axis === column?.name).reduce((n, t) => n + t.coef, 0);
    const aligned =
      terms.every((t) => t.axis === column?.name || t.coef % width === 0) && affine.constant % width === 0;
    const isAligned = aligned && (shift * stride) % width === 0;
    const vector = width > 1 && stride === 1 && isAligned && this.#place.aligned.has(buffer);
    return { pointer, from: shift * stride * bytes, stride, vector };
  }

  #load(buffer: string, index: Expr): readonly string[] {
    const w = this.#w;
    const { dtype, packed, regs } = this.#loaded.get(this.#keyOf(buffer, index).key) ?? this.#raw(buffer, index);
    if (packed) return regs.flatMap((pair) => unpack(w, pair, dtype));
    const wide = dtype === 'f32' ? regs : regs.map((half) => widen(w, half, dtype));
    return wide.length === 1 ? Array.from({ length: this.#place.width }, () => wide[0]) : wide;
  }

  #raw(buffer: string, index: Expr): Raw {
    const w = this.#w;
    const { width } = this.#place;
    const dtype = this.#dtypes.get(buffer) as DType;
    const { pointer, from, stride, vector } = this.#address(buffer, index);
    if (vector) {
      const type = dtype === 'f32' ? 'f32' : 'b32';
      const regs = (dtype === 'f32' ? [0, 16] : [0]).flatMap((at) => {
        const v = w.regs(type, 4);
        w.line(`ld.global.v4.${type} {${v.join(', ')}}, [${pointer}+${from + at}]`);
        return v;
      });
      return { dtype, packed: dtype !== 'f32', regs };
    }
    const one = (j: number): string =>
      dtype === 'f32'
        ? w.op('f32', 'ld.global.f32', `[${pointer}+${from + j * stride * 4}]`)
        : w.op('b16', 'ld.global.b16', `[${pointer}+${from + j * stride * 2}]`);
    return { dtype, packed: false, regs: Array.from({ length: stride === 0 ? 1 : width }, (_, j) => one(j)) };
  }

  #store(buffer: string, index: Expr, values: readonly string[]): void {
    const w = this.#w;
    const dtype = this.#dtypes.get(buffer) as DType;
    const { pointer, from, stride, vector } = this.#address(buffer, index);
    if (vector && dtype === 'f32') {
      for (const at of [0, 4])
        w.line(
          `st.global.v4.f32 [${pointer}+${from + at * 4}], {${values
            .slice(at, at + 4)
            .map((v) => inRegister(w, v))
            .join(', ')}}`,
        );
      return;
    }
    if (vector) {
      const pairs = [0, 2, 4, 6].map((j) => w.op('b32', `cvt.rn.${dtype}x2.f32`, values[j + 1], values[j]));
      w.line(`st.global.v4.b32 [${pointer}+${from}], {${pairs.join(', ')}}`);
      return;
    }
    for (const [j, value] of values.entries()) {
      if (dtype === 'f32') w.line(`st.global.f32 [${pointer}+${from + j * stride * 4}], ${inRegister(w, value)}`);
      else w.line(`st.global.b16 [${pointer}+${from + j * stride * 2}], ${w.op('b16', `cvt.rn.${dtype}.f32`, value)}`);
    }
  }
}

const inRegister = (w: PtxText, x: string): string => (x.startsWith('%') ? x : w.op('f32', 'mov.f32', x));

function widen(w: PtxText, half: string, dtype: DType): string {
  if (dtype === 'f16') return w.op('f32', 'cvt.f32.f16', half);
  const bits = w.op('b32', 'cvt.u32.u16', half);
  return w.op('f32', 'mov.b32', w.op('b32', 'shl.b32', bits, 16));
}

function unpack(w: PtxText, pair: string, dtype: DType): string[] {
  if (dtype === 'bf16')
    return [
      w.op('f32', 'mov.b32', w.op('b32', 'shl.b32', pair, 16)),
      w.op('f32', 'mov.b32', w.op('b32', 'and.b32', pair, 0xffff0000)),
    ];
  const [low, high] = w.regs('b16', 2);
  w.line(`mov.b32 {${low}, ${high}}, ${pair}`);
  return [low, high].map((h) => w.op('f32', 'cvt.f32.f16', h));
}
