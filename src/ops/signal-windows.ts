/**
 * Generated weights of signal processing: HannWindow, HammingWindow, BlackmanWindow, MelWeightMatrix. Their inputs are sizes, so what
 * they give is known as soon as these are.
 *
 *     window[n] = Σ over k of (−1)^k · a[k] · cos(2πkn / N)        N: size, or size − 1 where the window is symmetric
 */
import type { DType } from '../core/dtype.ts';
import type { Dim } from '../core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import { dimsInput } from './dims.ts';
import { bool, defineOp, dtypeAttr, type Op, type OpCase } from './op.ts';

const windowOp = (name: string, coefficients: readonly number[]): Op =>
  defineOp({
    name,
    onnx: { since: 17 },
    attrs: { output_datatype: dtypeAttr('f32'), periodic: bool(true) },
    inputs: [1, 1],
    infer(ctx) {
      if (ctx.input(0).shape.some((d) => typeof d === 'number' && d !== 1)) ctx.fail('the size must be a scalar');
      const [size = ctx.freshDim('window')] = dimsInput(ctx, 0) ?? [];
      return [{ dtype: ctx.attrs.output_datatype, shape: [size] }];
    },
    eval(_, { periodic }, [out]) {
      const [size] = out.shape;
      const period = periodic ? size : size - 1;
      const values = Float64Array.from({ length: size }, (_unused, n) =>
        coefficients.reduce(
          (sum, a, k) => sum + (-1) ** k * a * Math.cos(period === 0 ? 0 : (2 * Math.PI * k * n) / period),
          0,
        ),
      );
      return [fromNumbers(out.dtype, out.shape, values)];
    },
    cases: [
      windowCase('periodic', 10, {}),
      windowCase('symmetric', 11, { periodic: false }),
      windowCase('f64', 7, { output_datatype: 'f64' }),
    ],
  });

function windowCase(name: string, size: number, attrs: OpCase['attrs']): OpCase {
  return { name, ...(attrs && { attrs }), inputs: [{ constant: fromNumbers('i64', [], [size]) }] };
}

const toMel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
const toHertz = (mel: number): number => 700 * (10 ** (mel / 2595) - 1);

interface MelBands {
  readonly bands: number;
  readonly dftLength: number;
  readonly sampleRate: number;
  readonly lower: number;
  readonly upper: number;
}

/**
 * Weights [spectrogram bins, bands] of triangles whose corners are evenly apart on the mel scale, each corner at the bin below it.
 * https://onnx.ai/onnx/operators/onnx__MelWeightMatrix.html
 */
function melWeights({ bands, dftLength, sampleRate, lower, upper }: MelBands): Float64Array {
  const bins = Math.floor(dftLength / 2) + 1;
  const [low, high] = [toMel(lower), toMel(upper)];
  const step = (high - low) / (bands + 2);
  const corners = Array.from({ length: bands + 2 }, (_, i) =>
    Math.floor(((dftLength + 1) * toHertz(i * step + low)) / sampleRate),
  );
  const weights = new Float64Array(bins * bands);
  for (let band = 0; band < bands; band++) {
    const [start, centre, end] = corners.slice(band, band + 3);
    if (centre === start) weights[centre * bands + band] = 1;
    for (let bin = start; bin <= centre && centre > start; bin++)
      weights[bin * bands + band] = (bin - start) / (centre - start);
    for (let bin = centre; bin < end; bin++) weights[bin * bands + band] = (end - bin) / (end - centre);
  }
  return weights;
}

const melWeightMatrix = defineOp({
  name: 'MelWeightMatrix',
  onnx: { since: 17 },
  attrs: { output_datatype: dtypeAttr('f32') },
  inputs: [5, 5],
  infer(ctx) {
    const [bands, dftLength, , lower, upper] = [0, 1, 2, 3, 4].map((i) => {
      const value = ctx.constant(i);
      return value && toNumbers(value)[0];
    });
    if (lower !== undefined && upper !== undefined && !(lower >= 0 && lower < upper)) {
      ctx.fail(`the edges are ${lower} and ${upper} Hz, expected a range from 0 or above`);
    }
    const bins: Dim = dftLength === undefined ? ctx.freshDim('bins') : Math.floor(dftLength / 2) + 1;
    return [{ dtype: ctx.attrs.output_datatype, shape: [bins, bands ?? ctx.freshDim('bands')] }];
  },
  eval(inputs, _, [out]) {
    const [bands, dftLength, sampleRate, lower, upper] = inputs.map((t) => toNumbers(t as Tensor)[0]);
    const weights = melWeights({ bands, dftLength, sampleRate, lower, upper });
    return [fromNumbers(out.dtype, out.shape, weights)];
  },
  cases: [melCase('8 bands', [8, 16, 8192, 0, 4096]), melCase('from above 0', [5, 64, 16000, 200, 7000], 'f64')],
});

function melCase(name: string, values: readonly number[], dtype: DType = 'f32'): OpCase {
  const inputs = values.map((v, i) => ({ constant: fromNumbers(i < 3 ? 'i64' : 'f32', [], [v]) }));
  return { name, attrs: { output_datatype: dtype }, inputs };
}

export const WINDOW_OPS: readonly Op[] = [
  windowOp('HannWindow', [0.5, 0.5]),
  windowOp('HammingWindow', [25 / 46, 21 / 46]),
  windowOp('BlackmanWindow', [0.42, 0.5, 0.08]),
  melWeightMatrix,
];
