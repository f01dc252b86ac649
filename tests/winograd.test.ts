/**
 * Winograd's method on every machine: convolutions of generated shapes against eval in float64, and the error that its transforms add.
 *
 * Errors are in units of the outputs' expected root mean square, for inputs and weights drawn evenly from [-1, 1]; the bounds are the
 * template's own. Of a few hundred channels direct sums in f32 err about as much as F(4×4, 3×3).
 */
import { describe, expect, it } from 'vitest';
import type { TypedArray } from '../src/core/dtype.ts';
import { contractKernel } from '../src/loop/contract.ts';
import { evalKernel } from '../src/loop/eval.ts';
import * as e from '../src/loop/expr.ts';
import { type SharedPlace, sharedPlaces } from '../src/loop/in-place.ts';
import type { AccessDim, Affine, Expr, Kernel } from '../src/loop/ir.ts';
import { packWeight } from '../src/targets/cpu/pack-weight.ts';
import { WINOGRAD_TILES, winograd } from '../src/targets/cpu/winograd.ts';
import { winogradMatrices } from '../src/targets/cpu/winograd-matrices.ts';
import { planWinograd } from '../src/targets/cpu/winograd-plan.ts';
import type { Params } from '../src/targets/target.ts';
import { random } from './random-kernel.ts';
import { type ConvSpec, convKernel } from './support/contract-kernels.ts';
import { KERNEL_MACHINES, type KernelMachine, loadKernel } from './support/kernel-runner.ts';

const SEED = 77;
const FACTS = { constant: new Set(['w']) };
const PRESENT = KERNEL_MACHINES.filter(({ absent }) => absent === undefined);

/** Every tactic that is offered, and the same with tiles that are not. */
function tacticsOf(kernel: Kernel, features: readonly string[]): Params[] {
  const offered = winograd.candidates(kernel, FACTS, features).filter(({ tile }) => tile === 2);
  const tiles = WINOGRAD_TILES.filter(({ step }) => step === planWinograd(kernel)?.step);
  return offered.flatMap((params) => tiles.map(({ tile }) => ({ ...params, tile })));
}

interface DeepSpec {
  /** Of the input: depth, height, width. */
  readonly size: readonly [number, number, number];
  readonly channels: number;
  readonly n: number;
  /** Along the depth. */
  readonly taps: number;
  readonly stride: number;
  readonly dilation: number;
  readonly pad: number;
}

/** A convolution in three dimensions, channels last, with bias: 3×3 in the image. */
function deepKernel({ size: [d, h, w], channels, n, taps, stride, dilation, pad }: DeepSpec): Kernel {
  const depth = Math.floor((d + 2 * pad - dilation * (taps - 1) - 1) / stride) + 1;
  const at = (constant: number, ...terms: readonly (readonly [string, number])[]): Affine => ({
    terms: terms.map(([axis, coef]) => ({ axis, coef })),
    constant,
  });
  const dim = (a: Affine, extent: number, step: number, padded = false): AccessDim => ({
    at: a,
    extent,
    stride: step,
    padded,
  });
  const sum = (terms: readonly (readonly [string, number])[]): Expr =>
    terms.reduce<Expr>((x, [axis, coef]) => e.add(x, e.mul(e.axis(axis), e.index(coef))), e.index(0));
  const buffer = (name: string, elements: number, role: 'in' | 'out' = 'in') =>
    ({ name, dtype: 'f32', elements, role }) as const;
  return contractKernel(
    'conv3d',
    [
      buffer('x', d * h * w * channels),
      buffer('w', n * channels * taps * 9),
      buffer('bias', n),
      buffer('y', depth * h * w * n, 'out'),
    ],
    {
      kind: 'contract',
      axes: [
        { name: 'od', extent: depth, role: 'm' },
        { name: 'oh', extent: h, role: 'm' },
        { name: 'ow', extent: w, role: 'm' },
        { name: 'oc', extent: n, role: 'n' },
        { name: 'kd', extent: taps, role: 'k' },
        { name: 'kh', extent: 3, role: 'k' },
        { name: 'kw', extent: 3, role: 'k' },
        { name: 'ic', extent: channels, role: 'k' },
      ],
      a: {
        buffer: 'x',
        dims: [
          dim(at(0, ['ic', 1]), channels, 1),
          dim(at(-pad, ['od', stride], ['kd', dilation]), d, h * w * channels, true),
          dim(at(-1, ['oh', 1], ['kh', 1]), h, w * channels, true),
          dim(at(-1, ['ow', 1], ['kw', 1]), w, channels, true),
        ],
      },
      b: {
        buffer: 'w',
        dims: [
          dim(at(0, ['oc', 1]), n, channels * taps * 9),
          dim(at(0, ['ic', 1]), channels, taps * 9),
          dim(at(0, ['kd', 1]), taps, 9),
          dim(at(0, ['kh', 1]), 3, 3),
          dim(at(0, ['kw', 1]), 3, 1),
        ],
      },
      acc: 'f32',
      epilogue: [
        {
          kind: 'store',
          buffer: 'y',
          index: sum([
            ['od', h * w * n],
            ['oh', w * n],
            ['ow', n],
            ['oc', 1],
          ]),
          value: e.add(e.local('acc', 'f32'), e.load('bias', 'f32', e.axis('oc'))),
        },
      ],
    },
  );
}

function inputsOf(kernel: Kernel, seed: number): Map<string, Float32Array> {
  const rnd = random(seed);
  const draw = (elements: number) => Float32Array.from({ length: elements }, () => rnd.next() * 2 - 1);
  return new Map(kernel.buffers.filter((b) => b.role === 'in').map((b) => [b.name, draw(b.elements)]));
}

/** y in float64. */
function evaluate(kernel: Kernel, inputs: ReadonlyMap<string, Float32Array>): Float64Array {
  const buffers = kernel.buffers.map((b) => (b.name === 'y' ? ({ ...b, dtype: 'f64' } as const) : b));
  const y = new Float64Array(buffers.find((b) => b.name === 'y')?.elements ?? 0);
  evalKernel({ ...kernel, buffers }, new Map<string, TypedArray>([...inputs, ['y', y]]));
  return y;
}

/** y by a tactic, the tiles cut in two at random. */
function run(
  kernel: Kernel,
  inputs: ReadonlyMap<string, Float32Array>,
  machine: KernelMachine,
  params: Params,
  seed: number,
  shared?: SharedPlace,
) {
  const packed = new Map(inputs);
  for (const [name, packing] of winograd.packing?.(kernel, params) ?? []) {
    packed.set(name, packWeight(inputs.get(name) as Float32Array, kernel, packing) as Float32Array);
  }
  const loaded = loadKernel(kernel, { template: 'winograd', params }, packed, machine, shared);
  const tiles = winograd.tiles(kernel, params);
  const cut = random(seed).below(tiles + 1);
  loaded.run(cut, tiles);
  loaded.run(0, cut);
  return { y: loaded.data.get('y') as Float32Array, damaged: loaded.damagedGaps() };
}

/** Checks all tactics on all machines that run here; how many there were. `summed` products are added nine times over. */
function check(kernel: Kernel, summed: number, seed: number): number {
  const inputs = inputsOf(kernel, seed);
  const want = evaluate(kernel, inputs);
  // Products of two such numbers have the variance 1/9, and nine times as many as there are channels are added.
  const scale = Math.sqrt(summed);
  let ran = 0;
  for (const machine of PRESENT) {
    for (const params of tacticsOf(kernel, machine.features)) {
      for (const shared of [undefined, ...sharedPlaces(kernel)]) {
        const place = shared ? `, in place of ${shared.from}` : '';
        const name = `${kernel.name} by ${JSON.stringify(params)} on ${machine.name}, seed ${seed}${place}`;
        const { y, damaged } = run(kernel, inputs, machine, params, seed, shared);
        expect(damaged, name).toEqual([]);
        const worst = y.reduce((most, x, i) => Math.max(most, Math.abs(x - want[i])), 0) / scale;
        const step = planWinograd(kernel)?.step;
        const bound = WINOGRAD_TILES.find((t) => t.tile === params.tile && t.step === step)?.error ?? 0;
        expect(worst, name).toBeLessThanOrEqual(bound);
        ran++;
      }
    }
  }
  return ran;
}

describe('convolutions', () => {
  const rnd = random(SEED);
  const specs: ConvSpec[] = [
    { size: [2, 2], ic: 16, oc: 16, kernel: [3, 3], pad: 1 },
    { size: [4, 5], ic: 16, oc: 16, kernel: [3, 3], pad: 0 },
    { size: [2, 9], ic: 16, oc: 80, kernel: [3, 3], pad: 2, batch: 3, epilogue: 'bias-residual-relu' },
    // More tiles than a block holds.
    { size: [31, 33], ic: 48, oc: 16, kernel: [3, 3], pad: 1, epilogue: 'bias' },
    { size: [7, 7], ic: 256, oc: 32, kernel: [3, 3], pad: 1, batch: 2 },
    // Weights that are asked for ahead.
    { size: [9, 9], ic: 128, oc: 64, kernel: [3, 3], pad: 1 },
    { size: [5, 6], ic: 16, oc: 16, kernel: [3, 3], stride: 2, pad: 0 },
    { size: [14, 14], ic: 256, oc: 32, kernel: [3, 3], stride: 2, pad: 1, batch: 2 },
    { size: [27, 32], ic: 48, oc: 16, kernel: [3, 3], stride: 2, pad: 1, epilogue: 'bias-residual-relu' },
  ];
  for (let i = 0; i < 18; i++) {
    specs.push({
      batch: rnd.pick([1, 1, 2]),
      stride: i < 12 ? 1 : 2,
      size: [4 + rnd.below(14), 4 + rnd.below(14)],
      ic: 4 * (1 + rnd.below(8)),
      oc: 4 * (1 + rnd.below(16)),
      kernel: [3, 3],
      pad: rnd.pick([0, 1, 1, 2]),
      epilogue: rnd.pick(['none', 'bias', 'bias-relu', 'bias-residual-relu', 'bias-clip'] as const),
    });
  }
  it.each(specs.map((spec, i) => [JSON.stringify(spec), spec, SEED + i] as const))('%s', (_, spec, seed) => {
    expect(check(convKernel(spec), spec.ic, seed)).toBeGreaterThan(0);
  });
});

describe('convolutions in three dimensions', () => {
  const specs: DeepSpec[] = [
    { size: [3, 9, 6], channels: 8, n: 24, taps: 2, stride: 1, dilation: 1, pad: 0 },
    { size: [4, 5, 8], channels: 16, n: 16, taps: 3, stride: 1, dilation: 1, pad: 1 },
    { size: [5, 2, 7], channels: 16, n: 8, taps: 3, stride: 2, dilation: 1, pad: 1 },
    { size: [6, 4, 3], channels: 8, n: 16, taps: 2, stride: 1, dilation: 3, pad: 2 },
  ];
  it.each(specs.map((spec, i) => [JSON.stringify(spec), spec, SEED + i] as const))('%s', (_, spec, seed) => {
    expect(check(deepKernel(spec), spec.channels * spec.taps, seed)).toBeGreaterThan(0);
  });
});

it('is for windows of 3×3 with stride 1 or 2 and dilation 1 over whole vectors of channels', () => {
  const spec: ConvSpec = { size: [9, 9], ic: 16, oc: 16, kernel: [3, 3] };
  const offers = (change: Partial<ConvSpec>): boolean =>
    winograd.candidates(convKernel({ ...spec, ...change }), FACTS, ['avx2']).length > 0;
  expect(offers({})).toBe(true);
  expect(offers({ stride: 2 })).toBe(true);
  const others: Partial<ConvSpec>[] = [
    { stride: 3 },
    { dilation: 2 },
    { stride: 2, dilation: 2 },
    { kernel: [1, 1] },
    { kernel: [3, 1] },
    { kernel: [5, 5] },
    { group: 2 },
    { group: 16 },
    { ic: 12 },
    { oc: 12 },
    { layout: 'nchw' },
    { size: [1, 9], pad: 1 },
  ];
  expect(others.filter(offers)).toEqual([]);
});

/** A 3-tap filter in one dimension, in float64: exact up to rounding whatever the points. */
it.each(WINOGRAD_TILES.map(({ tile, step }) => [tile, step]))(
  'the matrices of F(%i, 3) with stride %i filter',
  (tile, step) => {
    const { aT, bT, g, points } = winogradMatrices(tile, step);
    const rnd = random(SEED);
    const d = Array.from({ length: points }, () => rnd.next());
    const taps = [rnd.next(), rnd.next(), rnd.next()];
    const times = (matrix: readonly (readonly number[])[], x: readonly number[]) =>
      matrix.map((row) => row.reduce((sum, c, j) => sum + c * x[j], 0));
    const v = times(bT, d);
    const y = times(
      aT,
      times(g, taps).map((u, i) => u * v[i]),
    );
    const want = y.map((_, i) => taps.reduce((sum, w, j) => sum + w * d[step * i + j], 0));
    y.forEach((x, i) => {
      expect(Math.abs(x - want[i])).toBeLessThan(1e-13);
    });
    for (const entry of [...aT, ...bT].flat()) expect(Math.fround(entry)).toBe(entry);
  },
);
