/**
 * Resizing with antialias, as Pillow's `Image.resize` does (and with it torchvision's `Resize` of a picture): bit for bit.
 *
 * A separable filter, stretched by the factor of the reduction so that it averages every source pixel under an output pixel.
 * Each pass sums 8-bit pixels times 22-bit fixed-point weights and rounds back to 8 bits: columns first, then rows.
 * A pass over an axis whose size stays is left out. Source of the arithmetic: Pillow's documented resampling filters (Resample).
 */
import type { Picture } from './picture.ts';

export type AntialiasKernel = 'bilinear' | 'bicubic' | 'lanczos';

interface FilterKernel {
  /** The filter is zero at this distance and beyond, in source pixels at scale 1. */
  readonly support: number;
  readonly at: (distance: number) => number;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

const KERNELS: { readonly [K in AntialiasKernel]: FilterKernel } = {
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  // Keys' cubic convolution with a = -1/2.
  bicubic: {
    support: 2,
    at: (distance) => {
      const a = -0.5;
      const x = Math.abs(distance);
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    },
  },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** 8 bits of pixel and 2 of headroom for negative lobes leave 22 of 32 for the weight. */
const PRECISION_BITS = 22;

/** For each output position: the first source position, how many follow, and their weights (`taps` a position). */
interface AxisWeights {
  readonly taps: number;
  readonly first: Int32Array;
  readonly count: Int32Array;
  readonly weight: Int32Array;
}

/** The picture at `width` × `height` pixels, both at least 1. */
export function resizeAntialiased(picture: Picture, width: number, height: number, kernel: AntialiasKernel): Picture {
  const filter = KERNELS[kernel];
  const { rgb } = picture;
  const wide = width === picture.width ? rgb : filterColumns(rgb, picture.width, picture.height, width, filter);
  const done = height === picture.height ? wide : filterRows(wide, width, picture.height, height, filter);
  return { width, height, rgb: done === rgb ? rgb.slice() : done };
}

function axisWeights(from: number, to: number, filter: FilterKernel): AxisWeights {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const taps = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const weight = new Int32Array(to * taps);
  const exact = new Float64Array(taps);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(from, Math.trunc(center + support + 0.5));
    let sum = 0;
    for (let j = begin; j < end; j++) {
      exact[j - begin] = filter.at((j - center + 0.5) * (1 / stretch));
      sum += exact[j - begin];
    }
    for (let j = 0; j < end - begin; j++) {
      const scaled = (sum === 0 ? exact[j] : exact[j] / sum) * (1 << PRECISION_BITS);
      weight[i * taps + j] = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    }
    first[i] = begin;
    count[i] = end - begin;
  }
  return { taps, first, count, weight };
}

/** Half a unit, so that the shift rounds. */
const HALF = 1 << (PRECISION_BITS - 1);
const toByte = (sum: number): number => Math.min(255, Math.max(0, sum >> PRECISION_BITS));

/** `[rows][from][3]` to `[rows][to][3]`. */
function filterColumns(rgb: Uint8Array, from: number, rows: number, to: number, filter: FilterKernel): Uint8Array {
  const { taps, first, count, weight } = axisWeights(from, to, filter);
  const out = new Uint8Array(to * rows * 3);
  for (let y = 0, o = 0; y < rows; y++) {
    for (let x = 0; x < to; x++, o += 3) {
      let [r, g, b] = [HALF, HALF, HALF];
      let at = (y * from + first[x]) * 3;
      for (let j = 0; j < count[x]; j++, at += 3) {
        const w = weight[x * taps + j];
        r += rgb[at] * w;
        g += rgb[at + 1] * w;
        b += rgb[at + 2] * w;
      }
      out[o] = toByte(r);
      out[o + 1] = toByte(g);
      out[o + 2] = toByte(b);
    }
  }
  return out;
}

/** `[from][width][3]` to `[to][width][3]`. */
function filterRows(rgb: Uint8Array, width: number, from: number, to: number, filter: FilterKernel): Uint8Array {
  const { taps, first, count, weight } = axisWeights(from, to, filter);
  const rowBytes = width * 3;
  const out = new Uint8Array(to * rowBytes);
  const sums = new Int32Array(rowBytes);
  for (let y = 0; y < to; y++) {
    sums.fill(HALF);
    for (let j = 0; j < count[y]; j++) {
      const w = weight[y * taps + j];
      const row = (first[y] + j) * rowBytes;
      for (let i = 0; i < rowBytes; i++) sums[i] += rgb[row + i] * w;
    }
    for (let i = 0; i < rowBytes; i++) out[y * rowBytes + i] = toByte(sums[i]);
  }
  return out;
}
