/**
 * Resizing without antialias, as OpenCV's `resize` does: an output pixel reads the 2×2 (linear) or 4×4 (cubic) source pixels around
 * its centre, however much smaller the output is. PyTorch's `interpolate(antialias=False)` samples the same positions.
 *
 * Weights are 11-bit fixed point. Linear is bit for bit OpenCV's INTER_LINEAR of 8-bit pixels. Cubic (Keys, a = -3/4) follows OpenCV's
 * vector code, which sums rows in float32; its scalar code at the end of a row sums in integers, so pixels there may differ by one level.
 */
import type { Picture } from './picture.ts';

export type SampleKernel = 'bilinear' | 'bicubic';

const COEF_BITS = 11;
const COEF_SCALE = 1 << COEF_BITS;
const TAPS: { readonly [K in SampleKernel]: 2 | 4 } = { bilinear: 2, bicubic: 4 };

/** For each output position: its source positions, clamped to the picture, and their weights; `taps` of each. */
interface AxisSamples {
  readonly position: Int32Array;
  readonly weight: Int32Array;
}

/** The picture at `width` × `height` pixels, both at least 1. */
export function resizeSampled(picture: Picture, width: number, height: number, kernel: SampleKernel): Picture {
  if (width === picture.width && height === picture.height) return { width, height, rgb: picture.rgb.slice() };
  const taps = TAPS[kernel];
  const columns = axisSamples(picture.width, width, kernel, true);
  const rows = axisSamples(picture.height, height, kernel, false);
  const wide = sampleColumns(picture, width, columns, taps);
  const rowLength = width * 3;
  const rgb = new Uint8Array(height * rowLength);
  for (let y = 0; y < height; y++) {
    const lines: Int32Array[] = [];
    for (let j = 0; j < taps; j++) lines.push(wide[rows.position[y * taps + j]]);
    const weights = rows.weight.subarray(y * taps, (y + 1) * taps);
    const out = rgb.subarray(y * rowLength, (y + 1) * rowLength);
    if (taps === 2) blendLinear(lines, weights, out);
    else blendCubic(lines, weights, out);
  }
  return { width, height, rgb };
}

/**
 * Source positions and weights along an axis. Past the edge, linear columns take the edge pixel whole, while linear rows and cubic
 * keep their weights on clamped positions: the difference is one of rounding, and OpenCV's.
 */
function axisSamples(from: number, to: number, kernel: SampleKernel, isColumn: boolean): AxisSamples {
  const taps = TAPS[kernel];
  const scale = 1 / (to / from);
  const position = new Int32Array(to * taps);
  const weight = new Int32Array(to * taps);
  for (let i = 0; i < to; i++) {
    const center = Math.fround((i + 0.5) * scale - 0.5);
    let base = Math.floor(center);
    let fraction = Math.fround(center - base);
    if (kernel === 'bilinear' && isColumn && (base < 0 || base >= from - 1)) {
      base = base < 0 ? 0 : from - 1;
      fraction = 0;
    }
    const exact = kernel === 'bilinear' ? [Math.fround(1 - fraction), fraction] : cubicWeights(fraction);
    for (let j = 0; j < taps; j++) {
      position[i * taps + j] = Math.min(from - 1, Math.max(0, base + j - (taps / 2 - 1)));
      weight[i * taps + j] = roundHalfEven(Math.fround(exact[j] * COEF_SCALE));
    }
  }
  return { position, weight };
}

/** Keys' cubic with a = -3/4 at distances 1 + x, x, 1 - x; the fourth makes the sum one. Every step rounds to float32. */
function cubicWeights(x: number): number[] {
  const f = Math.fround;
  const a = -0.75;
  const far = f(x + 1);
  const near = f(1 - x);
  const outer = f(f(f(f(f(f(a * far) + 3.75) * far) - 6) * far) + 3);
  const inner = (d: number) => f(f(f(f(f(1.25 * d) - 2.25) * d) * d) + 1);
  const [w0, w1, w2] = [outer, inner(x), inner(near)];
  return [w0, w1, w2, f(f(f(1 - w0) - w1) - w2)];
}

/** One line of `[width][3]` sums a source row, each a pixel times 2^11. */
function sampleColumns(picture: Picture, width: number, samples: AxisSamples, taps: number): Int32Array[] {
  const { rgb } = picture;
  const lines: Int32Array[] = [];
  for (let y = 0; y < picture.height; y++) {
    const line = new Int32Array(width * 3);
    const row = y * picture.width * 3;
    for (let x = 0; x < width; x++) {
      for (let j = 0; j < taps; j++) {
        const at = row + samples.position[x * taps + j] * 3;
        const w = samples.weight[x * taps + j];
        line[3 * x] += rgb[at] * w;
        line[3 * x + 1] += rgb[at + 1] * w;
        line[3 * x + 2] += rgb[at + 2] * w;
      }
    }
    lines.push(line);
  }
  return lines;
}

/** ((b0·(s0 >> 4)) >> 16) + ((b1·(s1 >> 4)) >> 16), then two bits off with rounding: products that fit 16-bit multipliers. */
function blendLinear([s0, s1]: readonly Int32Array[], [b0, b1]: Int32Array, out: Uint8Array): void {
  for (let i = 0; i < out.length; i++) {
    out[i] = (((b0 * (s0[i] >> 4)) >> 16) + ((b1 * (s1[i] >> 4)) >> 16) + 2) >> 2;
  }
}

function blendCubic([s0, s1, s2, s3]: readonly Int32Array[], weights: Int32Array, out: Uint8Array): void {
  const f = Math.fround;
  const [b0, b1, b2, b3] = Array.from(weights, (w) => w / (COEF_SCALE * COEF_SCALE));
  for (let i = 0; i < out.length; i++) {
    const sum = f(f(s0[i] * b0) + f(f(s1[i] * b1) + f(f(s2[i] * b2) + f(s3[i] * b3))));
    out[i] = Math.min(255, Math.max(0, roundHalfEven(sum)));
  }
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
