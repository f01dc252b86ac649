/**
 * Every CPU template against evalKernel: each legal tactic of generated kernels on every machine that runs here, the tiles cut into
 * random ranges. Outputs are poisoned before and gaps between buffers must keep their poison.
 *
 * Tolerance: kernels sum in f32 in another order than eval, so errors are bounded by k·2^-24 of the sum of magnitudes; inputs are in
 * [-1, 1], so 1e-6·(k + 1) of an absolute bound is several times that.
 */
import { describe, expect, it } from 'vitest';
import type { TypedArray } from '../src/core/dtype.ts';
import { DTYPES, isFloat } from '../src/core/dtype.ts';
import { decodeScalar } from '../src/core/tensor.ts';
import { packedElements } from '../src/engine/engine.ts';
import { evalKernel } from '../src/loop/eval.ts';
import { sharedPlaces } from '../src/loop/in-place.ts';
import type { Buffer, Kernel } from '../src/loop/ir.ts';
import { legalizeKernel } from '../src/loop/legalize.ts';
import { generated } from '../src/targets/cpu/generated.ts';
import { packWeight } from '../src/targets/cpu/pack-weight.ts';
import { unpackPanels } from '../src/targets/cpu/packing.ts';
import { CPU_OPS } from '../src/targets/cpu/scalar-ops.ts';
import type { CpuTemplate } from '../src/targets/cpu/template.ts';
import { CPU_TEMPLATES } from '../src/targets/cpu/templates.ts';
import { eachExpr } from '../src/targets/cpu/walk.ts';
import type { Params } from '../src/targets/target.ts';
import { random, randomArray, randomKernel } from './random-kernel.ts';
import { type ConvSpec, convKernel, type GemmSpec, gemmKernel } from './support/contract-kernels.ts';
import { KERNEL_MACHINES, type KernelMachine, loadKernel } from './support/kernel-runner.ts';
import { loopKernels } from './support/loop-kernels.ts';

const SEED = 20240;
const ABSENT = KERNEL_MACHINES.filter(({ absent }) => absent !== undefined);
const PRESENT = KERNEL_MACHINES.filter(({ absent }) => absent === undefined);

/** A machine that cannot run here is a test that is skipped, with the reason in its name. */
it.skipIf(true).each(ABSENT)('$name: $absent', () => {});

function uniform(seed: number, elements: number): Float32Array {
  const rnd = random(seed);
  return Float32Array.from({ length: elements }, () => rnd.next() * 2 - 1);
}

function summedElements(kernel: Kernel): number {
  const { form } = kernel;
  return form.kind === 'contract' ? form.axes.reduce((n, a) => (a.role === 'k' ? n * a.extent : n), 1) : 64;
}

/** Floats within `bound` plus a relative error of the dtype's precision, NaN where NaN; everything else equal. */
function compare(label: string, b: Buffer, want: TypedArray, got: TypedArray, bound: number): void {
  const relative = b.dtype === 'f16' ? 2 ** -10 : b.dtype === 'bf16' ? 2 ** -7 : 1e-6;
  for (let i = 0; i < b.elements; i++) {
    const [x, y] = [decodeScalar(b.dtype, want[i]), decodeScalar(b.dtype, got[i])];
    if (Object.is(x, y) || x === y) continue;
    if (isFloat(b.dtype) && Math.abs(Number(x) - Number(y)) <= bound + relative * Math.abs(Number(x))) continue;
    expect.fail(`${label}: ${b.name}[${i}] is ${y}, expected ${x}`);
  }
}

/** Runs every legal tactic on every machine and compares all outputs with eval. Returns how many ran. */
function checkKernel(kernel: Kernel, seed: number, inputs: ReadonlyMap<string, TypedArray>): number {
  const expected = new Map(inputs);
  for (const b of kernel.buffers) if (b.role === 'out') expected.set(b.name, new DTYPES[b.dtype].array(b.elements));
  evalKernel(kernel, expected);
  let ran = 0;
  for (const machine of PRESENT) {
    for (const template of CPU_TEMPLATES) {
      if (template.form !== 'any' && template.form !== kernel.form.kind) continue;
      const known = [new Set(['w']), new Set<string>()].map((constant) =>
        template.candidates(kernel, { constant }, machine.features),
      );
      const rows = new Map(known.flat().map((params) => [JSON.stringify(params), params]));
      for (const params of rows.values()) {
        checkTactic(machine, kernel, template, params, seed, inputs, expected);
        ran++;
      }
    }
  }
  return ran;
}

function checkTactic(
  machine: KernelMachine,
  kernel: Kernel,
  template: CpuTemplate,
  params: Params,
  seed: number,
  inputs: ReadonlyMap<string, TypedArray>,
  expected: ReadonlyMap<string, TypedArray>,
): void {
  const packed = new Map(inputs);
  for (const [name, packing] of template.packing?.(kernel, params) ?? []) {
    const data = inputs.get(name) as Float32Array;
    const weights = packWeight(data, kernel, packing) as Float32Array;
    expect(weights.length).toBe(packedElements(packing));
    if (packing.kind === 'panels') expect(unpackPanels(weights, kernel, packing, data.length)).toEqual(data);
    packed.set(name, weights);
  }
  const tactic = { template: template.name, params };
  const tiles = template.tiles(kernel, params);
  for (const shared of [undefined, ...sharedPlaces(kernel)]) {
    const loaded = loadKernel(kernel, tactic, packed, machine, shared);
    const rnd = random(seed);
    for (let from = 0; from < tiles; ) {
      const to = Math.min(tiles, from + 1 + rnd.below(Math.max(1, tiles)));
      loaded.run(from, to);
      from = to;
    }
    loaded.run(tiles, tiles);
    const place = shared ? `, ${shared.to} in place of ${shared.from}` : '';
    const label = `${kernel.name} by ${template.name} ${JSON.stringify(params)} on ${machine.name}, seed ${seed}${place}`;
    for (const b of kernel.buffers) {
      if (b.role !== 'out') continue;
      const bound = 1e-6 * (summedElements(kernel) + 1);
      compare(label, b, expected.get(b.name)!, loaded.data.get(b.name)!, bound);
    }
    expect(loaded.damagedGaps(), label).toEqual([]);
  }
}

const inputsOf = (kernel: Kernel, seed: number): Map<string, TypedArray> =>
  new Map(
    kernel.buffers
      .filter((b) => b.role === 'in')
      .map((b, i) => [
        b.name,
        b.dtype === 'f32' ? uniform(seed + i, b.elements) : randomArray(random(seed + i), b.dtype, b.elements),
      ]),
  );

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
