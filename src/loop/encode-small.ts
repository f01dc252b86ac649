/**
 * Kernels over what machines have: floats of 8 bits and fewer become their bits in u8, integers of 4 and 2 bits i8 and u8. Every kernel goes
 * through here as lowering writes it, so neither targets nor engine files know these dtypes.
 *
 * Loads, stores and choices move the stored form. A cast becomes arithmetic on i32 and f32; other operations compute on what the operands
 * stand for, and cast the result. Rounding is that of core/minifloat.ts.
 *
 *     encode   size = bits of |x| rounded to the format's mantissa, exponent rebased; subnormals: |x| + 2^(23 - …), whose last place is theirs
 *     decode   exponent and mantissa moved into place, then scaled by 2^(127 - bias), which is exact and makes subnormals normal
 */
import { DTYPES, type DType, isFloat, isSmallFloat, type SmallFloat, type SmallInt, storageOf } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { E8M0, MINIFLOATS, type MiniFloat, signBit } from '../core/minifloat.ts';
import { encodeScalar } from '../core/tensor.ts';
import { contractBody } from './contract.ts';
import { add, binary, bitcast, cast, constant, index, mapChildren, max, min, mul, select, sub } from './expr.ts';
import type { Expr, Kernel, Stmt } from './ir.ts';
import { mapStmt } from './legalize.ts';

const isSmall = (dtype: DType): boolean => storageOf(dtype) !== dtype;

/** The kernel without small dtypes; itself where it has none. */
export function encodeSmall(kernel: Kernel): Kernel {
  const encode = encoder();
  const statement = (stmt: Stmt): Stmt => encodeStmt(mapStmt(stmt, encode));
  const buffers = kernel.buffers.map((b) => ({ ...b, dtype: storageOf(b.dtype) }));
  if (kernel.form.kind !== 'contract') return { ...kernel, buffers, body: kernel.body.map(statement) };
  const read = [kernel.form.a.buffer, kernel.form.b.buffer];
  const small = kernel.buffers.find((b) => read.includes(b.name) && isSmall(b.dtype));
  if (small) throw new Bug('loop-small', `kernel ${kernel.name} multiplies ${small.dtype}, which nothing computes in`);
  const form = { ...kernel.form, epilogue: kernel.form.epilogue.map(statement) };
  return { ...kernel, buffers, form, body: contractBody(buffers, form) };
}

/** Locals have the stored form; mapStmt has seen to the expressions. */
function encodeStmt(stmt: Stmt): Stmt {
  switch (stmt.kind) {
    case 'for':
    case 'scan':
    case 'if':
      return { ...stmt, body: stmt.body.map(encodeStmt) };
    case 'reduce':
      if (isSmall(stmt.dtype)) throw new Bug('loop-small', `there is no sum of ${stmt.dtype}`);
      return stmt;
    case 'let':
      return { ...stmt, dtype: storageOf(stmt.dtype) };
    case 'store':
      return stmt;
    default:
      return stmt satisfies never;
  }
}

/** Rewrites expressions, each shared node once. */
function encoder(): (e: Expr) => Expr {
  const done = new Map<Expr, Expr>();
  const decoded = new Map<Expr, Expr>();
  const encode = (e: Expr): Expr => remembered(done, e, () => rewrite(e));
  /** The value in a dtype that machines compute in: f32 or i32 where it is a small one. */
  const value = (e: Expr): Expr =>
    isSmall(e.dtype) ? remembered(decoded, e, () => decode(e.dtype as SmallFloat | SmallInt, encode(e))) : encode(e);
  const rewrite = (e: Expr): Expr => {
    switch (e.kind) {
      case 'const':
        return isSmall(e.dtype) ? constant(storageOf(e.dtype), encodeScalar(e.dtype, e.value)) : e;
      case 'axis':
        return e;
      case 'local':
      case 'load':
      case 'select': {
        const moved = mapChildren(e, encode);
        return isSmall(e.dtype) ? ({ ...moved, dtype: storageOf(e.dtype) } as Expr) : moved;
      }
      case 'unary':
      case 'binary':
      case 'cast':
      case 'bitcast': {
        const computed = mapChildren(e, value);
        if (!isSmall(e.dtype)) return computed;
        if (e.kind === 'cast') return fromWide(e.dtype as SmallFloat | SmallInt, value(e.x));
        const wide = { ...computed, dtype: isFloat(e.dtype) ? 'f32' : 'i32' } as Expr;
        return fromWide(e.dtype as SmallFloat | SmallInt, wide);
      }
      default:
        return e satisfies never;
    }
  };
  return encode;
}

function remembered(memo: Map<Expr, Expr>, e: Expr, make: () => Expr): Expr {
  const known = memo.get(e) ?? make();
  memo.set(e, known);
  return known;
}

const fromWide = (to: SmallFloat | SmallInt, x: Expr): Expr =>
  cast(storageOf(to), isSmallFloat(to) ? encodeFloat(to, cast('f32', x)) : encodeInt(to, x));
const decode = (from: SmallFloat | SmallInt, stored: Expr): Expr =>
  isSmallFloat(from) ? decodeFloat(from, cast('i32', stored)) : cast('i32', stored);

const and = (a: Expr, mask: number): Expr => binary('bitand', a, index(mask));
const or = (a: Expr, b: Expr): Expr => binary('bitor', a, b);
const shl = (a: Expr, bits: number): Expr => binary('shl', a, index(bits));
const shr = (a: Expr, bits: number): Expr => binary('shr', a, index(bits));
const lt = (a: Expr, b: number): Expr => binary('lt', a, index(b));
const gt = (a: Expr, b: number): Expr => binary('gt', a, index(b));
const eq = (a: Expr, b: number): Expr => binary('eq', a, index(b));
const f32 = (value: number): Expr => constant('f32', value);

/** Floats truncate and saturate, integers lose their high bits. */
function encodeInt(to: SmallInt, x: Expr): Expr {
  const { bits = 0, kind, min: low, max: high } = DTYPES[to];
  const whole = cast('i32', x);
  if (isFloat(x.dtype)) return min(max(whole, index(Number(low))), index(Number(high)));
  return kind === 'uint' ? and(whole, Number(high)) : shr(shl(whole, 32 - bits), 32 - bits);
}

const SIGN = -(2 ** 31);
const MANTISSA = 23;
const INFINITY = 0x7f800000;
/** The bits of 2^exponent. */
const exponentBits = (exponent: number): number => (exponent + 127) << MANTISSA;

function encodeFloat(to: SmallFloat, x: Expr): Expr {
  const bits = bitcast('i32', x);
  const abs = and(bits, ~SIGN);
  const none = gt(abs, INFINITY);
  if (to === 'f8e8m0') {
    const up = min(shr(add(bits, index(2 ** MANTISSA - 1)), MANTISSA), index(E8M0.largest));
    // 2^-127 is the float32 of these bits; what is not above it is the least number, negative ones too.
    return select(none, index(E8M0.nan), select(gt(bits, 0x400000), up, index(0)));
  }
  const format = MINIFLOATS[to];
  const size = min(roundedSize(abs, format), index(format.largest));
  const signed = or(size, select(lt(bits, 0), index(signBit(format)), index(0)));
  return select(none, index(format.nan), format.unsignedZero ? select(eq(size, 0), size, signed) : signed);
}

/** Bits of a magnitude in the format, rounded to nearest, ties to even, and counted on beyond its largest. */
function roundedSize(abs: Expr, { mantissaBits, bias }: MiniFloat): Expr {
  const dropped = MANTISSA - mantissaBits;
  const odd = and(shr(abs, dropped), 1);
  // Infinity and NaN stay below 2^31.
  const capped = min(abs, index(INFINITY));
  const rounded = shr(add(capped, add(odd, index(2 ** (dropped - 1) - 1))), dropped);
  const normal = sub(rounded, index((127 - bias) << mantissaBits));
  const least = 1 - bias;
  const unit = least - mantissaBits + MANTISSA;
  const shifted = add(bitcast('f32', abs), f32(2 ** unit));
  const subnormal = sub(bitcast('i32', shifted), index(exponentBits(unit)));
  return select(lt(abs, exponentBits(least)), subnormal, normal);
}

function decodeFloat(from: SmallFloat, code: Expr): Expr {
  if (from === 'f8e8m0') {
    const bits = select(eq(code, 0), index(0x400000), shl(code, MANTISSA));
    return select(eq(code, E8M0.nan), f32(Number.NaN), bitcast('f32', bits));
  }
  const format = MINIFLOATS[from];
  const { mantissaBits, bias, largest, nan, infinity, unsignedZero } = format;
  const sign = signBit(format);
  const size = and(code, sign - 1);
  const scaled = mul(bitcast('f32', shl(size, MANTISSA - mantissaBits)), f32(2 ** (127 - bias)));
  const isNegative = binary('ne', and(code, sign), index(0));
  const value = bitcast('f32', or(bitcast('i32', scaled), select(isNegative, index(SIGN), index(0))));
  if (unsignedZero) return select(eq(code, nan), f32(Number.NaN), value);
  if (largest === sign - 1) return value;
  const real = select(gt(size, largest), f32(Number.NaN), value);
  if (infinity === undefined) return real;
  const infinite = select(isNegative, f32(Number.NEGATIVE_INFINITY), f32(Number.POSITIVE_INFINITY));
  return select(eq(size, infinity), infinite, real);
}
