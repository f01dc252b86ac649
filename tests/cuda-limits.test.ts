/**
 * Axes that end at a size known at run time only, on target cuda without a GPU: legal tactics of each template on kernels with limits on random
 * axes against evalKernel, interpreted, and taken by ptxas where that is present. What eval stores must be there, and nothing else.
 *
 * Tolerance as in cuda-kernels.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { DTYPES, isFloat, type TypedArray } from '../src/core/dtype.ts';
import { decodeScalar, fromNumbers } from '../src/core/tensor.ts';
import type { Buffer } from '../src/loop/ir.ts';
import { printKernel } from '../src/loop/print.ts';
import { verifyKernel } from '../src/loop/verify.ts';
import { chipFeatures } from '../src/targets/cuda/machine.ts';
import type { Chip } from '../src/targets/cuda/program.ts';
import { cudaTarget } from '../src/targets/cuda/target.ts';
import { CUDA_TEMPLATES } from '../src/targets/cuda/templates.ts';
import { assemble, ptxasIsPresent } from './ptx/ptxas.ts';
import { CHIPS, emitTactic, runTactic } from './ptx/run-kernel.ts';
import { random, randomArray } from './random-kernel.ts';
import { convKernel, gemmKernel } from './support/contract-kernels.ts';
import { withDType } from './support/cuda-gemm.ts';
import { type Draw, drawKernel, evalTwice, type Limited, withLimits } from './support/limited-kernels.ts';
import { longestSum } from './support/longest-sum.ts';
import { loopKernels } from './support/loop-kernels.ts';

const SEED = 1303;
const PTXAS = ptxasIsPresent();
/** Rows of parameters of a template that one kernel runs; kernels take them by turns. */
const ROWS = 3;
let turn = 0;
const RUNS = Number(process.env.LIMIT_RUNS ?? 72);
/** Kernels with limits that each template ran. */
const ran = new Map<string, number>();

function inputOf(b: Buffer, seed: number): TypedArray {
  const rnd = random(seed);
  if (b.dtype !== 'f32' && b.dtype !== 'f16' && b.dtype !== 'bf16') return randomArray(rnd, b.dtype, b.elements);
  return fromNumbers(
    b.dtype,
    [b.elements],
    Array.from({ length: b.elements }, () => rnd.next() * 2 - 1),
  ).data;
}

function check({ kernel, sizes }: Limited, chip: Chip, seed: number): void {
  verifyKernel(kernel);
  const inputs = new Map<string, TypedArray>(
    kernel.buffers.flatMap((b, i) =>
      b.role === 'in' ? [[b.name, b.name === 'sizes' ? sizes : inputOf(b, seed + i)] as const] : [],
    ),
  );
  const [want, other] = evalTwice(kernel, inputs);
  const k = longestSum(kernel);
  for (const template of CUDA_TEMPLATES) {
    if (template.form !== 'any' && template.form !== kernel.form.kind) continue;
    const all = [new Set(['w']), new Set<string>()].flatMap((constant) =>
      template.candidates(kernel, { constant }, chipFeatures(chip)),
    );
    const rows = [...new Map(all.map((row) => [JSON.stringify(row), row])).values()];
    if (rows.length > 0) ran.set(template.name, (ran.get(template.name) ?? 0) + 1);
    for (let i = 0; i < Math.min(ROWS, rows.length); i++) {
      const params = rows[turn++ % rows.length];
      const packed = new Map(inputs);
      const lengths = new Map<string, number>();
      for (const [name, packing] of template.packing?.(kernel, params) ?? []) {
        packed.set(name, cudaTarget.pack!(inputs.get(name)!, kernel, name, packing));
        lengths.set(name, packed.get(name)!.length);
      }
      const label = `${printKernel(kernel)}\nsizes ${sizes}\nby ${template.name} ${JSON.stringify(params)} on sm_${chip.computeCapability}`;
      const emitted = emitTactic(kernel, { template: template.name, params }, chip, { lengths });
      if (PTXAS && i === 0)
        for (const text of emitted.program.modules)
          expect(assemble(text, /\.target (\S+)/.exec(text)![1]), label).toBe('');
      for (const got of runTactic(kernel, emitted, packed))
        for (const b of kernel.buffers) if (b.role === 'out') compare(label, b, [want, other], got.get(b.name)!, k);
    }
  }
}

function compare(
  label: string,
  { name, dtype, elements }: Buffer,
  [want, other]: readonly ReadonlyMap<string, TypedArray>[],
  got: TypedArray,
  k: number,
): void {
  const [x, y] = [want.get(name)!, other.get(name)!];
  const bytes = new Uint8Array(got.buffer, got.byteOffset, got.byteLength);
  const size = DTYPES[dtype].bytes;
  for (let i = 0; i < elements; i++) {
    if (!Object.is(x[i], y[i])) {
      const poisoned = bytes.subarray(i * size, (i + 1) * size).every((byte) => byte === 0xff);
      if (!poisoned) expect.fail(`${label}: ${name}[${i}] was stored, behind a limit`);
      continue;
    }
    const [a, b] = [decodeScalar(dtype, x[i]), decodeScalar(dtype, got[i])];
    const close =
      isFloat(dtype) &&
      Math.abs(Number(a) - Number(b)) <=
        1e-6 * (k + 1) + (dtype === 'f32' ? 1e-6 : dtype === 'bf16' ? 1e-2 : 2e-3) * Math.abs(Number(a));
    if (!Object.is(a, b) && a !== b && !close) expect.fail(`${label}: ${name}[${i}] is ${b}, expected ${a}`);
  }
}

const DRAW: Draw = {
  larger: 7,
  columns: [1, 8, 16, 24],
  nests: [
    [5, 7, 9],
    [13, 1, 64],
    [3, 2, 131],
    [2, 31, 3],
    [1, 40, 96],
    [1, 1, 5003],
    [1, 1, 40_003],
  ],
};

describe('limits', () => {
  const rnd = random(SEED);
  const cases = Array.from({ length: RUNS }, (_, i) => {
    const made = drawKernel(rnd, i, DRAW);
    const kernel = made.form.kind === 'contract' && i % 2 === 0 ? withDType(made, 'f16') : made;
    const chip = CHIPS[i % 4 === 0 ? 2 : i % 3];
    return [`${i} ${kernel.name}`, withLimits(kernel, random(SEED + i)), SEED + i, chip] as const;
  });
  it.each(cases)('%s', (_, limited, seed, chip) => {
    check(limited, chip, seed);
  });

  // Limits on rows, batch and windows alone, so that tensor cores take them; tails of all kinds.
  const rows = random(SEED + 1);
  const onTensorCores = Array.from({ length: RUNS / 8 }, (_, i) => {
    const conv = convKernel({
      batch: rows.pick([1, 3]),
      size: [3 + rows.below(7), 3 + rows.below(7)],
      ic: rows.pick([3, 8, 40]),
      layout: rows.pick(['nhwc', 'nchw'] as const),
      oc: rows.pick([8, 13, 24, 64]),
      kernel: rows.pick([[1, 1] as const, [3, 3] as const]),
      stride: rows.pick([1, 2]),
      pad: rows.pick([0, 1]),
      epilogue: rows.pick(['none', 'bias-relu', 'bias-residual-relu'] as const),
    });
    const product = gemmKernel({
      batch: rows.pick([1, 3]),
      m: rows.pick([1, 5, 37, 70]),
      n: rows.pick([8, 33, 64]),
      k: rows.pick([8, 40, 136]),
      transB: rows.below(2) === 0,
      epilogue: rows.pick(['none', 'bias-residual-relu'] as const),
    });
    const kernel = withDType(rows.pick([conv, product]), rows.pick(['f16', 'f16', 'bf16'] as const));
    return [
      `${i} ${kernel.name}`,
      withLimits(kernel, rows, new Set(['m', 'batch'])),
      CHIPS[1 + (i % 2)],
      SEED + i,
    ] as const;
  });
  it.each(onTensorCores)('%s on tensor cores', (_, limited, chip, seed) => {
    const before = ran.get('tensor-cores') ?? 0;
    check(limited, chip, seed);
    expect(ran.get('tensor-cores')).toBe(before + 1);
  });

  it('all ran by generated code, products by tiles too', () => {
    expect(ran.get('generated')).toBe(cases.length + onTensorCores.length);
    expect(ran.get('tiled')).toBeGreaterThan(cases.length / 4);
  });
});

it('a table of sizes that lies is kept to the extents', () => {
  for (const [i, lie] of [-1, -7, -(2 ** 31), 2 ** 31 - 1].entries()) {
    for (const made of [
      loopKernels([3, 2, 131]).find(({ name }) => name === 'softmax')!,
      gemmKernel({ m: 13, n: 16, k: 37, epilogue: 'bias' }),
      convKernel({ size: [7, 5], ic: 3, oc: 8, kernel: [3, 3], pad: 1 }),
    ]) {
      const limited = withLimits(made, random(SEED + i));
      check({ ...limited, sizes: limited.sizes.map(() => lie) }, CHIPS[i % 3], SEED + i);
    }
  }
});
