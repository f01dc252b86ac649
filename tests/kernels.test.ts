/** Every CPU template against evalKernel: each legal tactic of generated kernels on every machine that runs here (support/check-kernel.ts). */
import { describe, expect, it } from 'vitest';
import type { TypedArray } from '../src/core/dtype.ts';
import { DTYPES, isFloat } from '../src/core/dtype.ts';
import { evalKernel } from '../src/loop/eval.ts';
import type { Kernel } from '../src/loop/ir.ts';
import { legalizeKernel } from '../src/loop/legalize.ts';
import { generated } from '../src/targets/cpu/generated.ts';
import { CPU_OPS } from '../src/targets/cpu/scalar-ops.ts';
import { eachExpr } from '../src/targets/cpu/walk.ts';
import { random, randomArray, randomKernel } from './random-kernel.ts';
import { ABSENT, checkKernel, compare, inputsOf, PRESENT } from './support/check-kernel.ts';
import { type ConvSpec, convKernel, type GemmSpec, gemmKernel } from './support/contract-kernels.ts';
import { loadKernel } from './support/kernel-runner.ts';
import { loopKernels } from './support/loop-kernels.ts';

const SEED = 20240;

/** A machine that cannot run here is a test that is skipped, with the reason in its name. */
it.skipIf(true).each(ABSENT)('$name: $absent', () => {});

describe('convolutions', () => {
  const rnd = random(SEED);
  const specs: ConvSpec[] = [
    { size: [7, 7], ic: 64, oc: 16, kernel: [1, 1] },
    { size: [8, 8], ic: 16, oc: 16, kernel: [3, 3], pad: 1, epilogue: 'bias-residual-relu' },
    // So many rows that the last tile begins early, in one axis and in two.
    { size: [13, 15], ic: 8, oc: 40, kernel: [1, 1], epilogue: 'bias-residual-relu' },
    { size: [13, 15], ic: 5, oc: 72, kernel: [3, 3], pad: 1, epilogue: 'bias-relu' },
    { size: [15, 15], ic: 3, oc: 24, kernel: [7, 7], stride: 2, pad: 3, epilogue: 'bias-relu' },
    { size: [15, 15], ic: 3, oc: 24, kernel: [7, 7], stride: 2, pad: 3, layout: 'nchw', epilogue: 'bias-relu' },
    { size: [15, 15], ic: 3, oc: 24, kernel: [7, 7], stride: 2, pad: 3, layout: 'nchw', outLayout: 'nhwc' },
    { size: [9, 9], ic: 12, oc: 12, kernel: [3, 3], pad: 1, group: 12, epilogue: 'bias-clip' },
    // Groups of four and of eight channels.
    { size: [9, 23], ic: 32, oc: 32, kernel: [3, 3], pad: 1, group: 8, epilogue: 'bias-residual-relu' },
    { size: [5, 14], ic: 48, oc: 48, kernel: [3, 3], pad: 1, group: 6, epilogue: 'bias-relu', batch: 2 },
    { size: [11, 9], ic: 24, oc: 24, kernel: [3, 3], pad: 1, stride: 2, group: 3, epilogue: 'bias-relu' },
    { size: [11, 9], ic: 16, oc: 16, kernel: [3, 5], pad: 2, stride: 2, group: 4, epilogue: 'bias-residual-relu' },
    { size: [7, 7], ic: 40, oc: 40, kernel: [3, 3], pad: 2, dilation: 2, group: 10 },
    { size: [6, 5], ic: 16, oc: 16, kernel: [1, 1], group: 2, epilogue: 'bias' },
    { size: [1, 1], ic: 32, oc: 32, kernel: [3, 3], pad: 1, group: 8, epilogue: 'bias' },
    { size: [7, 3], ic: 8, oc: 8, kernel: [5, 5], pad: 2, group: 2, epilogue: 'bias' },
    { size: [9, 9], ic: 12, oc: 12, kernel: [3, 3], pad: 1, group: 12, layout: 'nchw', epilogue: 'bias-clip' },
    ...(
      [
        [9, 7, 12, 3, 1, 1, 1],
        [10, 11, 33, 3, 2, 1, 1],
        [9, 9, 7, 5, 1, 2, 1],
        [12, 5, 16, 5, 2, 2, 1],
        [9, 9, 8, 3, 1, 2, 2],
        [7, 7, 20, 7, 1, 0, 1],
        [6, 6, 5, 3, 1, 0, 1],
        [4, 4, 4, 1, 1, 0, 1],
        [10, 13, 16, 9, 1, 4, 1],
      ] as const
    ).map(
      ([h, w, c, k, stride, pad, dilation]): ConvSpec => ({
        batch: 1 + (h % 2),
        size: [h, w],
        ic: c,
        oc: c,
        group: c,
        kernel: [k, k],
        stride,
        pad,
        dilation,
        epilogue: 'bias-clip',
      }),
    ),
    { size: [1, 1], ic: 1, oc: 1, kernel: [1, 1] },
    { size: [0, 4], ic: 2, oc: 2, kernel: [1, 1] },
  ];
  for (let i = 0; i < 60; i++) {
    const group = rnd.pick([1, 1, 1, 2, 3]);
    const kernel = rnd.pick([
      [1, 1],
      [3, 3],
      [3, 1],
      [2, 5],
    ] as const);
    specs.push({
      batch: rnd.pick([1, 1, 2]),
      size: [kernel[0] * 2 + rnd.below(9), kernel[1] * 2 + rnd.below(9)],
      ic: group * rnd.pick([1, 3, 4, 7, 8]),
      oc: group * rnd.pick([1, 2, 5, 8, 12, 16, 17, 31]),
      kernel,
      stride: rnd.pick([1, 1, 2, 3]),
      pad: rnd.pick([0, 0, 1, 2]),
      dilation: rnd.pick([1, 1, 2]),
      group,
      layout: rnd.pick(['nhwc', 'nhwc', 'nchw'] as const),
      epilogue: rnd.pick(['none', 'bias', 'bias-relu', 'bias-residual-relu', 'bias-clip'] as const),
    });
  }
  it.each(specs.map((spec, i) => [JSON.stringify(spec), spec, SEED + i] as const))('%s', (_, spec, seed) => {
    const kernel = convKernel(spec);
    expect(checkKernel(kernel, seed, inputsOf(kernel, seed))).toBeGreaterThan(0);
  });
});

describe('matrix products', () => {
  const rnd = random(SEED + 1);
  const specs: GemmSpec[] = [];
  for (let i = 0; i < 40; i++) {
    const sizes = [1, 1, 2, 3, 5, 7, 13, 16, 33, 64];
    specs.push({
      batch: rnd.pick([1, 1, 2, 3]),
      m: rnd.pick(sizes),
      n: rnd.pick(sizes),
      k: rnd.pick(sizes),
      transA: rnd.below(3) === 0,
      transB: rnd.below(2) === 0,
      epilogue: rnd.pick(['none', 'bias', 'bias-residual-relu'] as const),
    });
  }
  it.each(specs.map((spec, i) => [JSON.stringify(spec), spec, SEED + i] as const))('%s', (_, spec, seed) => {
    const kernel = gemmKernel(spec);
    expect(checkKernel(kernel, seed, inputsOf(kernel, seed))).toBeGreaterThan(0);
  });
});

describe('loop nests', () => {
  const extents = [
    [0, 3, 4],
    [1, 1, 1],
    [5, 7, 9],
    [13, 1, 64],
    [3, 2, 131],
    [2, 31, 3],
    [1, 1, 5003],
  ] as const;
  const cases = extents.flatMap((s) =>
    loopKernels(s).map((kernel) => [`${kernel.name} ${s.join('x')}`, kernel] as const),
  );
  it.each(cases)('%s', (_, kernel) => {
    expect(checkKernel(kernel, SEED, inputsOf(kernel, SEED))).toBeGreaterThan(0);
  });

  /** Machines choose a NaN's bits freely. */
  const readsFloatBits = (kernel: Kernel): boolean => {
    let found = false;
    eachExpr(kernel.body, (x) => {
      if (x.kind === 'bitcast' && isFloat(x.x.dtype)) found = true;
    });
    return found;
  };

  /** Kernels of every statement, operation and dtype, on awkward values. The machine rounds to f32 where eval may round to f16. */
  it.each(PRESENT)('random kernels agree with eval on $name', (machine) => {
    let compared = 0;
    for (let seed = SEED; seed < SEED + 600; seed++) {
      const kernel = randomKernel(seed);
      if (kernel.buffers.some((b) => b.dtype === 'f16' || b.dtype === 'bf16') || readsFloatBits(kernel)) continue;
      const inputs = new Map<string, TypedArray>(
        kernel.buffers.map((b, i) => [
          b.name,
          b.role === 'in'
            ? randomArray(random(seed * 7 + i), b.dtype, b.elements)
            : new DTYPES[b.dtype].array(b.elements),
        ]),
      );
      const expected = new Map([...inputs].map(([name, data]) => [name, data.slice()]));
      evalKernel(legalizeKernel(kernel, CPU_OPS), expected, { rounding: 'each' });
      const loaded = loadKernel(kernel, { template: 'generated', params: {} }, inputs, machine);
      loaded.run(0, generated.tiles(kernel, {}));
      for (const b of kernel.buffers) {
        if (b.role === 'out') compare(`seed ${seed}`, b, expected.get(b.name)!, loaded.data.get(b.name)!, 1e-30);
      }
      expect(loaded.damagedGaps()).toEqual([]);
      compared++;
    }
    expect(compared).toBeGreaterThan(150);
  });
});
