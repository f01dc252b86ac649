/**
 * Contracts of bytes by every tactic on every machine, VNNI and without, bit for bit with evalKernel: u8 and i8 against i8 weights, runs
 * of k of all lengths around a group, padding, groups, depthwise; sums that reach the ends of what bytes can make, and the epilogue that
 * requantises, at ties too.
 */
import { describe, expect, it } from 'vitest';
import type { TypedArray } from '../src/core/dtype.ts';
import type { Kernel } from '../src/loop/ir.ts';
import { random, randomArray } from './random-kernel.ts';
import { ABSENT, checkKernel, PRESENT } from './support/check-kernel.ts';
import { type ConvSpec, convKernel, type GemmSpec, gemmKernel } from './support/contract-kernels.ts';
import { BYTE_MACHINES } from './support/kernel-runner.ts';

const SEED = 8088;
const MACHINES = [...PRESENT, ...BYTE_MACHINES.filter(({ absent }) => absent === undefined)];
it.skipIf(true).each([...ABSENT, ...BYTE_MACHINES.filter(({ absent }) => absent !== undefined)])(
  '$name: $absent',
  () => {},
);

/** Bytes of all values; with `extreme` only those at the ends. Scales are powers of two: products are exact, many are ties. */
function inputsOf(kernel: Kernel, seed: number, extreme: boolean): Map<string, TypedArray> {
  const rnd = random(seed);
  return new Map(
    kernel.buffers
      .filter((b) => b.role === 'in')
      .map(({ name, dtype, elements }): [string, TypedArray] => {
        if (dtype === 'f32')
          return [name, Float32Array.from({ length: elements }, () => rnd.pick([0.5, 0.25, 2 ** -7]))];
        if (dtype === 'i32') return [name, Int32Array.from({ length: elements }, () => rnd.below(2000) - 1000)];
        const data = randomArray(rnd, dtype, elements);
        if (extreme) data.fill((dtype === 'u8' ? 255 : -128) as never);
        return [name, data];
      }),
  );
}

const check = (kernel: Kernel, seed: number): void => {
  for (const extreme of [false, true]) {
    expect(checkKernel(kernel, seed, inputsOf(kernel, seed, extreme), MACHINES)).toBeGreaterThan(0);
  }
};

describe('convolutions', () => {
  const rnd = random(SEED);
  const specs: ConvSpec[] = [
    { size: [7, 7], ic: 64, oc: 16, kernel: [1, 1], bytes: 'u8', epilogue: 'requantise' },
    { size: [8, 8], ic: 16, oc: 40, kernel: [3, 3], pad: 1, bytes: 'u8', epilogue: 'requantise' },
    { size: [8, 8], ic: 18, oc: 24, kernel: [3, 3], pad: 1, bytes: 'i8', epilogue: 'requantise' },
    { size: [17, 17], ic: 3, oc: 24, kernel: [7, 7], stride: 2, bytes: 'u8', epilogue: 'requantise' },
    { size: [13, 15], ic: 8, oc: 67, kernel: [1, 1], stride: 2, bytes: 'i8', epilogue: 'requantise' },
    { size: [1, 1], ic: 1, oc: 1, kernel: [1, 1], bytes: 'u8' },
    { size: [0, 4], ic: 4, oc: 2, kernel: [1, 1], bytes: 'u8' },
    { size: [9, 9], ic: 24, oc: 24, kernel: [3, 3], pad: 1, group: 24, bytes: 'u8', epilogue: 'requantise' },
    { size: [9, 9], ic: 35, oc: 35, kernel: [3, 3], pad: 1, stride: 2, group: 35, bytes: 'i8', epilogue: 'requantise' },
    { size: [12, 5], ic: 16, oc: 16, kernel: [5, 5], pad: 2, group: 16, bytes: 'u8', epilogue: 'bias' },
  ];
  for (let i = 0; i < 50; i++) {
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
      ic: group * rnd.pick([1, 3, 4, 5, 8, 9, 15, 16, 33]),
      oc: group * rnd.pick([1, 2, 8, 12, 16, 17, 31, 33]),
      kernel,
      stride: rnd.pick([1, 1, 2, 3]),
      pad: rnd.pick([0, 0, 1, 2]),
      dilation: rnd.pick([1, 1, 2]),
      group,
      layout: rnd.pick(['nhwc', 'nhwc', 'nhwc', 'nchw'] as const),
      epilogue: rnd.pick(['none', 'bias', 'requantise'] as const),
      bytes: rnd.pick(['u8', 'i8'] as const),
    });
  }
  it.each(specs.map((spec, i) => [JSON.stringify(spec), spec, SEED + i] as const))('%s', (_, spec, seed) =>
    check(convKernel(spec), seed),
  );
});

describe('matrix products', () => {
  const rnd = random(SEED + 1);
  const specs: GemmSpec[] = Array.from({ length: 40 }, () => ({
    batch: rnd.pick([1, 1, 2, 3]),
    m: rnd.pick([1, 2, 5, 7, 13, 33]),
    n: rnd.pick([1, 3, 8, 16, 33, 64]),
    k: rnd.pick([1, 3, 4, 5, 7, 8, 9, 12, 15, 16, 31, 67]),
    transA: rnd.below(4) === 0,
    transB: rnd.below(2) === 0,
    epilogue: rnd.pick(['none', 'bias', 'requantise'] as const),
    bytes: rnd.pick(['u8', 'i8'] as const),
  }));
  it.each(specs.map((spec, i) => [JSON.stringify(spec), spec, SEED + i] as const))('%s', (_, spec, seed) =>
    check(gemmKernel(spec), seed),
  );
});

it('the templates of bytes apply where they should', () => {
  const kernel = convKernel({
    size: [8, 8],
    ic: 16,
    oc: 40,
    kernel: [3, 3],
    pad: 1,
    bytes: 'u8',
    epilogue: 'requantise',
  });
  const inputs = inputsOf(kernel, SEED, false);
  // Each machine has `generated` and a few tiles.
  for (const machine of MACHINES) expect(checkKernel(kernel, SEED, inputs, [machine]), machine.name).toBeGreaterThan(2);
});
