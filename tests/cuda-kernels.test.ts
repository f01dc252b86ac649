/**
 * The templates of target cuda for ordinary cores against evalKernel, without a GPU: each legal tactic is emitted, taken by ptxas where that program is
 * present, and interpreted. Outputs are poisoned, inputs read-only, buffers bounded.
 *
 * Tolerance: kernels sum in f32 in another order than eval, so errors are bounded by k·2^-24 of the sum of magnitudes; inputs are in
 * [-1, 1], so 1e-6·(k + 1) of an absolute bound is several times that. f16 and bf16 add half a unit in their last place.
 */
import { describe, expect, it } from 'vitest';
import type { TypedArray } from '../src/core/dtype.ts';
import { DTYPES, isFloat } from '../src/core/dtype.ts';
import { decodeScalar } from '../src/core/tensor.ts';
import { evalKernel } from '../src/loop/eval.ts';
import type { Buffer, Kernel } from '../src/loop/ir.ts';
import { legalizeKernel } from '../src/loop/legalize.ts';
import { eachExpr } from '../src/targets/cpu/walk.ts';
import { depthwise } from '../src/targets/cuda/depthwise.ts';
import { generated } from '../src/targets/cuda/generated.ts';
import type { Chip } from '../src/targets/cuda/program.ts';
import { CUDA_OPS } from '../src/targets/cuda/scalar-ops.ts';
import { cudaTarget } from '../src/targets/cuda/target.ts';
import type { CudaTemplate } from '../src/targets/cuda/template.ts';
import { tiled } from '../src/targets/cuda/tiled.ts';
import type { Params } from '../src/targets/target.ts';
import { assemble, ptxasIsPresent } from './ptx/ptxas.ts';
import { CHIPS, emitTactic, runTactic } from './ptx/run-kernel.ts';
import { random, randomArray, randomKernel } from './random-kernel.ts';
import { type ConvSpec, convKernel, type GemmSpec, gemmKernel } from './support/contract-kernels.ts';
import { longestSum } from './support/longest-sum.ts';
import { loopKernels } from './support/loop-kernels.ts';

const SEED = 90210;
const PTXAS = ptxasIsPresent();

function uniform(seed: number, elements: number): Float32Array {
  const rnd = random(seed);
  return Float32Array.from({ length: elements }, () => rnd.next() * 2 - 1);
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

/** Rows of parameters that a test of one kernel runs; tests take them by turns. */
const ROWS = 4;
let turn = 0;

/** Legal tactics of each template, on whole tensors and on badly aligned parts. Returns how many ran. */
function checkKernel(kernel: Kernel, chip: Chip, inputs: ReadonlyMap<string, TypedArray>): number {
  const expected = new Map(inputs);
  for (const b of kernel.buffers) if (b.role === 'out') expected.set(b.name, new DTYPES[b.dtype].array(b.elements));
  evalKernel(kernel, expected);
  let ran = 0;
  for (const template of [tiled, depthwise, generated]) {
    if (template.form !== 'any' && template.form !== kernel.form.kind) continue;
    const all = [new Set(['w']), new Set<string>()].flatMap((constant) =>
      template.candidates(kernel, { constant }, [`sm_${chip.computeCapability}`]),
    );
    const rows = [...new Map(all.map((row) => [JSON.stringify(row), row])).values()];
    for (let i = 0; i < Math.min(ROWS, rows.length); i++, ran++) {
      const params = rows[turn++ % rows.length];
      for (const skew of i === 0 ? [0, 1] : [0]) checkTactic(kernel, chip, template, params, skew, inputs, expected);
    }
  }
  return ran;
}

function checkTactic(
  kernel: Kernel,
  chip: Chip,
  template: CudaTemplate,
  params: Params,
  skew: number,
  inputs: ReadonlyMap<string, TypedArray>,
  expected: ReadonlyMap<string, TypedArray>,
): void {
  const packed = new Map(inputs);
  const lengths = new Map<string, number>();
  for (const [name, packing] of template.packing?.(kernel, params) ?? []) {
    packed.set(name, cudaTarget.pack!(inputs.get(name)!, kernel, name, packing));
    lengths.set(name, packed.get(name)!.length);
  }
  const label = `${kernel.name} by ${template.name} ${JSON.stringify(params)} on sm_${chip.computeCapability}, skew ${skew}`;
  const emitted = emitTactic(kernel, { template: template.name, params }, chip, { skew, lengths });
  if (PTXAS && skew === 0) {
    for (const text of emitted.program.modules) {
      expect(assemble(text, /\.target (\S+)/.exec(text)![1]), label).toBe('');
    }
  }
  for (const outputs of runTactic(kernel, emitted, packed))
    for (const b of kernel.buffers) {
      if (b.role !== 'out') continue;
      compare(label, b, expected.get(b.name)!, outputs.get(b.name)!, 1e-6 * (longestSum(kernel) + 1));
    }
}

describe('loop nests', () => {
  const extents = [
    [0, 3, 4],
    [1, 1, 1],
    [5, 7, 9],
    [13, 1, 64],
    [3, 2, 131],
    [2, 31, 3],
    [1, 1, 5003],
    [1, 1, 8192],
    [3, 64, 40],
    [64, 60, 12],
    [3, 5, 96],
    [1, 1, 40_003],
  ] as const;
  const cases = extents.flatMap((s, i) =>
    // Large ones on the chip that has clusters.
    loopKernels(s).map((kernel) => [`${kernel.name} ${s.join('x')}`, kernel, i > 8 ? CHIPS[2] : CHIPS[i % 3]] as const),
  );
  it.each(cases)('%s', (_, kernel, chip) => {
    expect(checkKernel(kernel, chip, inputsOf(kernel, SEED))).toBeGreaterThan(0);
  });
});

describe('convolutions and products', () => {
  const convolutions: ConvSpec[] = [
    { size: [7, 7], ic: 64, oc: 16, kernel: [1, 1] },
    { size: [8, 8], ic: 16, oc: 16, kernel: [3, 3], pad: 1, epilogue: 'bias-residual-relu' },
    { size: [15, 15], ic: 3, oc: 24, kernel: [7, 7], stride: 2, pad: 3, epilogue: 'bias-relu' },
    { size: [15, 15], ic: 3, oc: 24, kernel: [7, 7], stride: 2, pad: 3, layout: 'nchw', outLayout: 'nhwc' },
    { size: [9, 9], ic: 12, oc: 12, kernel: [3, 3], pad: 1, group: 12, epilogue: 'bias-clip' },
    { size: [9, 9], ic: 12, oc: 12, kernel: [3, 3], pad: 1, group: 12, layout: 'nchw', epilogue: 'bias-clip' },
    { size: [8, 8], ic: 16, oc: 16, kernel: [5, 5], pad: 2, group: 16, epilogue: 'bias-clip' },
    { batch: 2, size: [9, 8], ic: 8, oc: 8, kernel: [3, 3], pad: 1, stride: 2, group: 8, epilogue: 'bias-relu' },
    { size: [8, 12], ic: 6, oc: 6, kernel: [7, 7], pad: 3, group: 6 },
    { size: [8, 12], ic: 4, oc: 4, kernel: [3, 3], pad: 2, dilation: 2, group: 4 },
    { size: [9, 9], ic: 12, oc: 8, kernel: [3, 3], pad: 1, group: 4, epilogue: 'bias-clip' },
    { size: [1, 1], ic: 1, oc: 1, kernel: [1, 1] },
    { size: [0, 4], ic: 2, oc: 2, kernel: [1, 1] },
  ];
  it.each(convolutions.map((spec, i) => [JSON.stringify(spec), spec, CHIPS[i % CHIPS.length]] as const))(
    '%s',
    (_, spec, chip) => {
      const kernel = convKernel(spec);
      expect(checkKernel(kernel, chip, inputsOf(kernel, SEED))).toBeGreaterThan(0);
    },
  );

  const rnd = random(SEED + 1);
  const products = Array.from({ length: 16 }, (): GemmSpec => {
    const sizes = [1, 1, 2, 3, 5, 7, 13, 16, 33, 64, 100];
    return {
      batch: rnd.pick([1, 1, 2, 3]),
      m: rnd.pick(sizes),
      n: rnd.pick(sizes),
      k: rnd.pick(sizes),
      transA: rnd.below(3) === 0,
      transB: rnd.below(2) === 0,
      epilogue: rnd.pick(['none', 'bias', 'bias-residual-relu'] as const),
    };
  });
  it.each(products.map((spec, i) => [JSON.stringify(spec), spec, CHIPS[i % CHIPS.length]] as const))(
    '%s',
    (_, spec, chip) => {
      const kernel = gemmKernel(spec);
      expect(checkKernel(kernel, chip, inputsOf(kernel, SEED))).toBeGreaterThan(0);
    },
  );
});

/** Machines choose a NaN's bits freely. */
function readsFloatBits(kernel: Kernel): boolean {
  let found = false;
  eachExpr(kernel.body, (x) => {
    if (x.kind === 'bitcast' && isFloat(x.x.dtype)) found = true;
  });
  return found;
}

/** Kernels of every statement, operation and dtype, on awkward values. The machine rounds to f32 where eval may round to f16. */
it('random kernels agree with eval', () => {
  let compared = 0;
  for (let seed = SEED; seed < SEED + 150; seed++) {
    const kernel = randomKernel(seed);
    if (kernel.buffers.some((b) => b.dtype === 'f16' || b.dtype === 'bf16') || readsFloatBits(kernel)) continue;
    const inputs = new Map<string, TypedArray>();
    kernel.buffers.forEach((b, i) => {
      const zeros = new DTYPES[b.dtype].array(b.elements);
      inputs.set(b.name, b.role === 'in' ? randomArray(random(seed * 7 + i), b.dtype, b.elements) : zeros);
    });
    const expected = new Map([...inputs].map(([name, data]) => [name, data.slice()]));
    evalKernel(legalizeKernel(kernel, CUDA_OPS), expected, { rounding: 'each' });
    const emitted = emitTactic(kernel, { template: 'generated', params: {} }, CHIPS[seed % CHIPS.length]);
    for (const outputs of runTactic(kernel, emitted, inputs))
      for (const b of kernel.buffers) {
        if (b.role === 'out') compare(`seed ${seed}`, b, expected.get(b.name)!, outputs.get(b.name)!, 1e-30);
      }
    compared++;
  }
  expect(compared).toBeGreaterThan(40);
});

/** What is written, for eyes and for machines without ptxas: a vectorised map, rows by a team, a depthwise convolution. */
describe('texts', () => {
  const texts: readonly (readonly [string, Kernel, string, Params])[] = [
    ['map', loopKernels([64, 64, 64])[0], 'generated', {}],
    ['softmax', loopKernels([1, 2, 256]).find((kernel) => kernel.name === 'softmax')!, 'generated', {}],
    [
      'depthwise',
      convKernel({ size: [4, 4], ic: 8, oc: 8, kernel: [1, 3], group: 8, pad: 1, epilogue: 'bias-clip' }),
      'depthwise',
      { lanes: 4, columns: 2 },
    ],
  ];
  it.each(texts)('%s', async (name, kernel, template, params) => {
    const { program } = emitTactic(kernel, { template, params }, CHIPS[2]);
    await expect(program.modules.join('\n')).toMatchFileSnapshot(`goldens/cuda/${name}.ptx`);
  });
});
