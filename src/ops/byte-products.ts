/**
 * Sums of products of bytes with zero points, as products of the bytes themselves: what machines have instructions for.
 *
 *     Σ (a − zeroA) · (b − zeroB)  =  Σ a · b'  −  zeroA · Σ b'        b' = b − zeroB, a constant that fits i8
 *
 * The second term is a constant an output channel, or one times a zero point that only running tells, and joins the bias. Padding stands
 * for the number 0, so what is padded of a is zeroA: with another byte than 0 the padding is done before. Sums are i32 and wrap.
 */
import { Bug } from '../core/errors.ts';
import { elements, type StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import type { ConvAttrs } from './conv.ts';
import type { NodeWriter } from './node-writer.ts';
import type { QuantizedValue } from './op.ts';
import { BYTES } from './quantization.ts';
import { staticWindow, windowOutput } from './window.ts';

/** A tensor of bytes and what each is counted from; '' is 0. */
export interface ByteOperand {
  readonly q: string;
  readonly zeroPoint: string;
}

/** So many bytes side by side are what machines multiply at once; with fewer, products of bytes are slower than of floats. */
export const LEAST_RUN = 8;
/** With fewer channels the taps of a row are one run of memory where nothing pads them. */
const LEAST_CHANNELS = 16;

const isByte = (w: NodeWriter, x: string): boolean => BYTES.includes(w.type(x).dtype);
const isSingle = (w: NodeWriter, x: string): boolean => x === '' || elements(w.type(x).shape) === 1;

/** b − zeroB where all of it fits i8; channels lie along `axis` of b. */
function centredBytes(w: NodeWriter, { q, zeroPoint }: ByteOperand, axis: number): Tensor | undefined {
  const [b, zero] = [w.known(q), zeroPoint === '' ? undefined : w.known(zeroPoint)];
  if (!b || (zeroPoint !== '' && !zero) || !isByte(w, q)) return undefined;
  const zeros = zero ? Array.from(toNumbers(zero)) : [0];
  if (b.dtype === 'i8' && zeros.every((z) => z === 0)) return b;
  if (zeros.length !== 1 && zeros.length !== b.shape[axis]) return undefined;
  const run = elements(b.shape.slice(axis + 1));
  const centred = Array.from(toNumbers(b), (x, i) => x - zeros[Math.floor(i / run) % zeros.length]);
  if (!centred.every((x) => x >= -128 && x <= 127)) return undefined;
  return fromNumbers('i8', b.shape, centred);
}

/** −zero · Σ b as i32, a vector along `axis` of b: a constant where the zero point is known. undefined: it is 0. */
function correction(w: NodeWriter, zeroPoint: string, b: Tensor, axis: number): string | undefined {
  const known = zeroPoint === '' ? undefined : w.known(zeroPoint);
  if (zeroPoint === '' || (known && Number(toNumbers(known)[0]) === 0)) return undefined;
  const sums = sumsAlong(b, axis);
  const values = (factor: number): string =>
    w.constant(
      fromNumbers(
        'i32',
        [sums.length],
        sums.map((sum) => -factor * sum),
      ),
    );
  if (known) return values(Number(toNumbers(known)[0]));
  return w.mul(w.cast(w.reshape(zeroPoint, []), 'i32'), values(1));
}

/** Sums of a tensor over all dims but `axis`. */
function sumsAlong(t: Tensor, axis: number): Float64Array {
  const run = elements(t.shape.slice(axis + 1));
  const out = new Float64Array(t.shape[axis]);
  const data = toNumbers(t);
  for (let i = 0; i < data.length; i++) out[Math.floor(i / run) % out.length] += data[i];
  return out;
}

/**
 * A convolution of bytes in i32; `bias` is i32, one a channel, or ''. undefined where the weight is not known, does not fit, or the
 * input has several zero points.
 */
export function byteConv(
  w: NodeWriter,
  x: ByteOperand,
  weight: ByteOperand,
  attrs: ConvAttrs,
  bias = '',
): string | undefined {
  const b = isByte(w, x.q) && isSingle(w, x.zeroPoint) ? centredBytes(w, weight, 0) : undefined;
  if (!b) return undefined;
  const [channels] = b.shape;
  const spatial = b.shape.slice(2);
  const less = correction(w, x.zeroPoint, b, 0);
  const terms = [bias, less ?? ''].filter(Boolean);
  const folded = terms.length === 2 ? addKnown(w, terms[0], terms[1]) : terms[0];
  const { q, conv } = padded(w, x, b.shape, attrs, less !== undefined);
  const inputs = [q, w.constant(b)];
  if (folded !== undefined && w.known(folded)) return w.node('Conv', [...inputs, folded], conv);
  const sum = w.node('Conv', inputs, conv);
  return terms.reduce((y, term) => w.add(y, w.reshape(term, [channels, ...spatial.map(() => 1)])), sum);
}

/** The sum of two vectors, at once where both are known; undefined where not. */
function addKnown(w: NodeWriter, a: string, b: string): string | undefined {
  const [x, y] = [w.known(a), w.known(b)].map((t) => t && toNumbers(t));
  if (!x || !y) return undefined;
  return w.constant(
    fromNumbers(
      'i32',
      [y.length],
      Array.from(y, (v, i) => (v + x[x.length === 1 ? 0 : i]) | 0),
    ),
  );
}

/** The input with its padding, where it must be of bytes that are not 0, or where few channels would cut the taps of a row apart. */
function padded(w: NodeWriter, { q, zeroPoint }: ByteOperand, weight: StaticShape, attrs: ConvAttrs, hasZero: boolean) {
  const { shape, dtype } = w.type(q);
  const [input, kernel] = [shape.slice(2), weight.slice(2)];
  const refuse = (message: string): never => {
    throw new Bug('conv-window', `a convolution that was inferred has no window: ${message}`);
  };
  const output = windowOutput({ attrs, input, kernel, ceilMode: false, freshDim: refuse, fail: refuse });
  const dims = staticWindow(attrs, input, kernel, output as StaticShape);
  const pads = [...dims.map((d) => d.padBegin), ...dims.map((d) => d.padEnd)];
  const isGrouped = attrs.group > 1;
  if (pads.every((p) => p === 0) || !(hasZero || (!isGrouped && weight[1] < LEAST_CHANNELS))) return { q, conv: attrs };
  const value = hasZero ? w.reshape(zeroPoint, []) : w.scalar(dtype, 0);
  const around = [0, 0, ...pads.slice(0, dims.length), 0, 0, ...pads.slice(dims.length)];
  const wide = w.node('Pad', [q, w.ints(around), value]);
  return { q: wide, conv: { ...attrs, auto_pad: 'NOTSET', pads: pads.map(() => 0) } };
}

/** A product of matrices of bytes in i32, b two-dimensional, and a bias a column, or ''. undefined where b is not known, does not fit, or a has several zero points. */
export function byteMatMul(w: NodeWriter, a: ByteOperand, b: ByteOperand, bias = ''): string | undefined {
  if (!isByte(w, a.q) || !isSingle(w, a.zeroPoint) || w.type(b.q).shape.length !== 2) return undefined;
  const known = centredBytes(w, b, 1);
  if (!known) return undefined;
  const sum = w.matmul(a.q, w.constant(known));
  const less = correction(w, a.zeroPoint, known, 1);
  const terms = [bias, less ?? ''].filter(Boolean);
  const folded = terms.length === 2 ? addKnown(w, terms[0], terms[1]) : undefined;
  return (folded === undefined ? terms : [folded]).reduce((y, term) => w.add(y, term), sum);
}

/** What a linear operator between dequantised operands is made of; the weight's channels lie along `axis` of it. */
export interface QuantizedOperands {
  readonly a: QuantizedValue;
  readonly b: QuantizedValue;
  readonly axis: number;
  /** A bias a channel, as integers or as numbers. */
  readonly bias: QuantizedValue | Tensor | undefined;
}

/** A bias counts as of the sum's own scale where it differs by no more than f32 can tell. */
const SAME_SCALE = 2 ** -20;
const LARGEST_SUM = 2 ** 31;

/** The scales of a product, and its bias as integers of that scale where it is one. undefined where sums may leave i32. */
export function scalesOf(w: NodeWriter, { a, b, axis, bias }: QuantizedOperands) {
  const weight = w.known(b.q);
  if (!weight || a.scale.data.length !== 1) return undefined;
  const channels = weight.shape[axis];
  const ofB = Array.from(toNumbers(b.scale));
  if (ofB.length !== 1 && (ofB.length !== channels || b.axis !== axis)) return undefined;
  const factor = Number(toNumbers(a.scale)[0]);
  const scale = Float64Array.from(ofB, (s) => s * factor);
  const products = weight.data.length / Math.max(1, channels);
  const whole = bias && 'q' in bias ? integersOf(w, bias, scale) : undefined;
  const most = 255 * 255 * products + Math.max(0, ...(whole ?? []).map(Math.abs));
  if (most >= LARGEST_SUM) return undefined;
  const offset = whole ? undefined : bias && numbersOf(w, bias);
  if (bias && !whole && !offset) return undefined;
  if ([whole, offset].some((values) => values && values.length !== channels && values.length !== 1)) return undefined;
  return { scale, offset, bias: whole ? w.constant(fromNumbers('i32', [whole.length], whole)) : '' };
}

/** Integers that count in the sum's own scale. */
function integersOf(w: NodeWriter, bias: QuantizedValue, scale: Float64Array): number[] | undefined {
  const q = w.known(bias.q);
  if (!q || (bias.zeroPoint && toNumbers(bias.zeroPoint)[0] !== 0)) return undefined;
  const own = toNumbers(bias.scale);
  const count = Math.max(own.length, scale.length);
  const at = (values: ArrayLike<number>, i: number): number => values[values.length === 1 ? 0 : i];
  for (let i = 0; i < count; i++) {
    if (Math.abs(at(own, i) - at(scale, i)) > SAME_SCALE * at(scale, i)) return undefined;
  }
  return Array.from(toNumbers(q));
}

function numbersOf(w: NodeWriter, bias: QuantizedValue | Tensor): Float64Array | undefined {
  if (!('q' in bias)) return Float64Array.from(toNumbers(bias));
  const q = w.known(bias.q);
  if (!q) return undefined;
  const [zero, scale] = [bias.zeroPoint ? toNumbers(bias.zeroPoint) : [0], toNumbers(bias.scale)];
  const at = (values: ArrayLike<number>, i: number): number => values[values.length === 1 ? 0 : i];
  return Float64Array.from(toNumbers(q), (x, i) => (x - at(zero, i)) * at(scale, i));
}

/** A quantised value as an operand; its zero point as a constant. */
export const byteOperand = (w: NodeWriter, { q, zeroPoint }: QuantizedValue): ByteOperand => ({
  q,
  zeroPoint: zeroPoint ? w.constant(zeroPoint) : '',
});
