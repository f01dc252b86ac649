/**
 * Resizing along one axis as a table: which elements each output takes, with which weights. Resize is such a table a dim, applied dim
 * after dim, since every mode is separable.
 *
 *     out[o] = Σ taps  weight[o][t] · in[clamp(first[o] + t)]          x = the output's coordinate in the input, by the transformation
 *
 * The formulas are those of ONNX's operator description and reference implementation: lengths that are no whole number (scale · size) are
 * not rounded before `align_corners` uses them; where x is a whole number the pixel left of it counts as the neighbour, with weight 0.
 */

export interface AxisResize {
  readonly input: number;
  readonly output: number;
  readonly scale: number;
  /** Region of interest in [0, 1], for tf_crop_and_resize. */
  readonly roi: readonly [number, number];
}

export interface ResizeMethod {
  readonly mode: string;
  readonly transformation: string;
  readonly nearestMode: string;
  readonly cubicCoefficient: number;
  readonly excludeOutside: boolean;
  readonly antialias: boolean;
}

export interface AxisTable {
  readonly taps: number;
  /** output × taps, row-major: positions in the input, and their weights. */
  readonly positions: Int32Array;
  readonly weights: Float64Array;
  /** Outputs whose coordinate lies outside the input; only tf_crop_and_resize has any. */
  readonly outside: Uint8Array;
}

/**
 * In float32, as runtimes divide by a float32 scale: 3 / 0.6 is then 5 and not a little less, which decides the nearest neighbour.
 */
const quotient = (x: number, scale: number): number => Math.fround(x / Math.fround(scale));

/** The coordinate in the input of output `o`. */
function coordinate(
  o: number,
  { input, output, scale, roi: [start, end] }: AxisResize,
  transformation: string,
): number {
  const length = scale * input;
  switch (transformation) {
    case 'half_pixel':
      return quotient(o + 0.5, scale) - 0.5;
    case 'half_pixel_symmetric': {
      const adjustment = output / length;
      return (input / 2) * (1 - adjustment) + (o + 0.5) / scale - 0.5;
    }
    case 'pytorch_half_pixel':
      return length > 1 ? quotient(o + 0.5, scale) - 0.5 : 0;
    case 'align_corners':
      return length === 1 ? 0 : (o * (input - 1)) / (length - 1);
    case 'tf_half_pixel_for_nn':
      return quotient(o + 0.5, scale);
    case 'tf_crop_and_resize':
      return output > 1
        ? start * (input - 1) + (o * (end - start) * (input - 1)) / (output - 1)
        : 0.5 * (start + end) * (input - 1);
    default:
      return quotient(o, scale);
  }
}

function nearestPosition(x: number, mode: string): number {
  switch (mode) {
    case 'round_prefer_floor':
      return Math.ceil(x - 0.5);
    case 'round_prefer_ceil':
      return Math.floor(x + 0.5);
    case 'floor':
      return Math.floor(x);
    default:
      return Math.ceil(x);
  }
}

/** A kernel of interpolation: its weight at a distance, and how far it reaches. */
interface Filter {
  readonly reach: number;
  weight(distance: number): number;
}
const LINEAR: Filter = { reach: 1, weight: (d) => Math.max(0, 1 - Math.abs(d)) };
/** Keys' cubic convolution with coefficient a. */
const cubic = (a: number): Filter => ({
  reach: 2,
  weight(distance) {
    const d = Math.abs(distance);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
  },
});

export function axisTable(axis: AxisResize, method: ResizeMethod): AxisTable {
  const filter = method.mode === 'cubic' ? cubic(method.cubicCoefficient) : LINEAR;
  // Antialiasing widens the filter by as much as the picture shrinks.
  const shrink = method.antialias && method.mode !== 'nearest' ? Math.min(axis.scale, 1) : 1;
  const before = Math.ceil(filter.reach / shrink) - 1;
  const taps = method.mode === 'nearest' ? 1 : 2 * before + 2;
  const table: AxisTable = {
    taps,
    positions: new Int32Array(axis.output * taps),
    weights: new Float64Array(axis.output * taps),
    outside: new Uint8Array(axis.output),
  };
  const clamp = (at: number) => Math.min(Math.max(at, 0), axis.input - 1);
  for (let o = 0; o < axis.output; o++) {
    const x = coordinate(o, axis, method.transformation);
    if (method.transformation === 'tf_crop_and_resize') table.outside[o] = x < 0 || x > axis.input - 1 ? 1 : 0;
    if (method.mode === 'nearest') {
      table.positions[o] = clamp(nearestPosition(x, method.nearestMode));
      table.weights[o] = 1;
      continue;
    }
    const first = Math.ceil(x) - 1 - before;
    let sum = 0;
    for (let t = 0; t < taps; t++) {
      const at = first + t;
      const isOutside = at < 0 || at >= axis.input;
      const weight = method.excludeOutside && isOutside ? 0 : filter.weight((at - x) * shrink);
      table.positions[o * taps + t] = clamp(at);
      table.weights[o * taps + t] = weight;
      sum += weight;
    }
    if (method.excludeOutside || shrink < 1) for (let t = 0; t < taps; t++) table.weights[o * taps + t] /= sum;
  }
  return table;
}

/**
 * The numbers p, r, q with positions[o] = ⌊(o·p + r) / q⌋ for all o, where the positions are of this form: those of nearest neighbours
 * at a scale that is the quotient of the sizes. From p and q, which the sizes give, every o bounds r from both sides.
 */
export function positionsAsDivision(
  positions: Int32Array,
  input: number,
): { readonly p: number; readonly r: number; readonly q: number } | undefined {
  const [p, q] = [2 * input, 2 * positions.length];
  if (p * q >= 2 ** 31) return undefined;
  let [least, most] = [0, Number.POSITIVE_INFINITY];
  positions.forEach((at, o) => {
    least = Math.max(least, at * q - o * p);
    most = Math.min(most, (at + 1) * q - 1 - o * p);
  });
  return least <= most ? { p, r: least, q } : undefined;
}
