/**
 * Resizing of float32 planes, as PyTorch's `interpolate(mode='bilinear', align_corners=False)` does, and torchvision's `Resize` of a
 * tensor: nothing is rounded to 8 bits. Without antialias an output reads the 2×2 inputs around its centre; with it, the mean under a
 * triangle as wide as the reduction.
 *
 * The scale is a float32, and positions are computed from it with one rounding: far right in a large picture that decides the
 * neighbours' weights by 1e-4. Each axis is a sparse matrix, and sums are float32, tap by tap.
 */
export interface FloatPlane {
  readonly width: number;
  readonly height: number;
  readonly values: Float32Array;
}

/** For each output: the first input that it reads, and the weights of that and those behind it. */
interface AxisWeights {
  readonly first: Int32Array;
  readonly weights: readonly Float32Array[];
}

export function resizePlane(plane: FloatPlane, width: number, height: number, antialias: boolean): FloatPlane {
  const weigh = antialias ? triangleWeights : pairWeights;
  const wide = resizeRows(plane, weigh(plane.width, width));
  return resizeColumns(wide, weigh(plane.height, height));
}

/** The two inputs around each centre; the one past the edge is the edge. */
function pairWeights(from: number, to: number): AxisWeights {
  const scale = Math.fround(from / to);
  const first = new Int32Array(to);
  const weights = Array.from({ length: to }, (_, i) => {
    const at = Math.max(0, scale * (i + 0.5) - 0.5);
    const base = Math.min(Math.floor(at), from - 1);
    const fraction = Math.fround(Math.min(1, at - base));
    first[i] = base;
    return base === from - 1 ? Float32Array.of(1) : Float32Array.of(1 - fraction, fraction);
  });
  return { first, weights };
}

/** All inputs under a triangle of half-width max(scale, 1), each by its height there, summing to one. */
function triangleWeights(from: number, to: number): AxisWeights {
  const f = Math.fround;
  const scale = f(from / to);
  const support = Math.max(1, scale);
  const inverse = f(1 / support);
  const first = new Int32Array(to);
  const weights = Array.from({ length: to }, (_, i) => {
    const center = f(scale * f(i + 0.5));
    const begin = Math.max(0, Math.trunc(f(f(center - support) + 0.5)));
    const end = Math.min(from, Math.trunc(f(f(center + support) + 0.5)));
    const heights = Float32Array.from({ length: end - begin }, (_, j) =>
      Math.max(0, 1 - Math.abs(f(f(f(j + begin - center) + 0.5) * inverse))),
    );
    const sum = heights.reduce((total, height) => f(total + height), 0);
    first[i] = begin;
    return heights.map((height) => height / sum);
  });
  return { first, weights };
}

/** The sum and one more product, each rounded to float32, as PyTorch adds them. */
const plus = (sum: number, weight: number, x: number): number => Math.fround(sum + Math.fround(weight * x));

function resizeRows({ width, height, values }: FloatPlane, { first, weights }: AxisWeights): FloatPlane {
  const out = new Float32Array(weights.length * height);
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0; x < weights.length; x++, o++) {
      const taps = weights[x];
      const at = y * width + first[x];
      let sum = 0;
      for (let j = 0; j < taps.length; j++) sum = plus(sum, taps[j], values[at + j]);
      out[o] = sum;
    }
  }
  return { width: weights.length, height, values: out };
}

function resizeColumns({ width, values }: FloatPlane, { first, weights }: AxisWeights): FloatPlane {
  const out = new Float32Array(width * weights.length);
  for (let y = 0; y < weights.length; y++) {
    const sums = out.subarray(y * width, (y + 1) * width);
    for (const [j, weight] of weights[y].entries()) {
      const row = (first[y] + j) * width;
      for (let x = 0; x < width; x++) sums[x] = plus(sums[x], weight, values[row + x]);
    }
  }
  return { width, height: weights.length, values: out };
}
