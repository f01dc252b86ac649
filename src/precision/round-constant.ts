/**
 * Constants in a narrow float dtype: rounded to nearest even, with a count of what the dtype cannot hold.
 *
 * What overflows becomes the largest finite value of its sign and never an infinity: the caller decides on the count whether a node may
 * use it. An infinity or a NaN in the constant itself is kept.
 */
import { DTYPES } from '../core/dtype.ts';
import { numberToBf16, numberToF16 } from '../core/float16.ts';
import { type Tensor, toNumbers, zeros } from '../core/tensor.ts';

export type NarrowDType = 'f16' | 'bf16';

/** The smallest positive normal number: below, digits are lost. */
const SMALLEST_NORMAL: { readonly [D in NarrowDType]: number } = { f16: 2 ** -14, bf16: 2 ** -126 };
const ENCODE: { readonly [D in NarrowDType]: (value: number) => number } = { f16: numberToF16, bf16: numberToBf16 };

/** Bits of float32: 2^-14 and 65504, and what is between the biases of the exponents. */
const FIRST_NORMAL = 0x38800000;
const LAST_FINITE = 0x477fe000;
const BIAS = 112 << 23;

export interface RoundedConstant {
  readonly value: Tensor;
  /** Finite elements larger than the dtype holds. */
  readonly overflows: number;
  /** Elements that became subnormal or 0 and were neither. */
  readonly subnormals: number;
  /** Of those, the ones that became 0. */
  readonly vanished: number;
}

const known: { readonly [D in NarrowDType]: WeakMap<Tensor, RoundedConstant> } = {
  f16: new WeakMap(),
  bf16: new WeakMap(),
};

/** An f32 or f64 constant rounded to a narrow dtype; same shape. Done once a constant, however often it is asked for. */
export function roundConstant(constant: Tensor, to: NarrowDType): RoundedConstant {
  const rounded = known[to].get(constant) ?? round(constant, to);
  known[to].set(constant, rounded);
  return rounded;
}

function round(constant: Tensor, to: NarrowDType): RoundedConstant {
  const value = zeros(to, constant.shape);
  const out = value.data as Uint16Array;
  const numbers = toNumbers(constant);
  const largest = Number(DTYPES[to].max);
  const normal = SMALLEST_NORMAL[to];
  const encode = ENCODE[to];
  const rest = to === 'f16' && numbers instanceof Float32Array ? roundNormals(numbers, out) : undefined;
  const count = rest?.length ?? numbers.length;
  let overflows = 0;
  let subnormals = 0;
  let vanished = 0;
  for (let k = 0; k < count; k++) {
    const i = rest ? rest[k] : k;
    const x = numbers[i];
    const magnitude = Math.abs(x);
    if (magnitude > largest && magnitude !== Number.POSITIVE_INFINITY) {
      overflows++;
      out[i] = encode(Math.sign(x) * largest);
      continue;
    }
    const bits = encode(x);
    out[i] = bits;
    if (magnitude < normal && magnitude > 0) {
      subnormals++;
      if ((bits & 0x7fff) === 0) vanished++;
    }
  }
  return { value, overflows, subnormals, vanished };
}

/** Writes what is normal or 0 in f16, as most weights are; where the others stand. */
function roundNormals({ buffer, byteOffset, length }: Float32Array, out: Uint16Array): readonly number[] {
  const words = new Int32Array(buffer, byteOffset, length);
  const rest: number[] = [];
  for (let i = 0; i < length; i++) {
    const word = words[i];
    const magnitude = word & 0x7fffffff;
    const sign = (word >>> 16) & 0x8000;
    if (magnitude >= FIRST_NORMAL && magnitude <= LAST_FINITE)
      out[i] = sign | ((magnitude - BIAS + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
    else if (magnitude === 0) out[i] = sign;
    else rest.push(i);
  }
  return rest;
}
