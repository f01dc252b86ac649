/**
 * Axes that end at a size known at run time only: every CPU template against evalKernel, with limits put on random axes of random
 * convolutions, products and loop nests. What eval stores must be there; memory around the buffers must keep its poison.
 *
 * A register tile may store where nobody reads, behind a limit but inside the buffer, so only what eval stores is compared. Tolerance as
 * in kernels.test.ts.
 */
import { describe, expect, it } from 'vitest';
import type { TypedArray } from '../src/core/dtype.ts';
import * as e from '../src/loop/expr.ts';
import type { Buffer, Kernel } from '../src/loop/ir.ts';
import { parseKernel } from '../src/loop/parse.ts';
import { printKernel } from '../src/loop/print.ts';
import { findFaults, verifyKernel } from '../src/loop/verify.ts';
import { packWeight } from '../src/targets/cpu/pack-weight.ts';
import { CPU_TEMPLATES } from '../src/targets/cpu/templates.ts';
import { random, randomArray } from './random-kernel.ts';
import { KERNEL_MACHINES, loadKernel } from './support/kernel-runner.ts';
import { type Draw, drawKernel, evalTwice, type Limited, withLimits } from './support/limited-kernels.ts';

const SEED = 4711;
const PRESENT = KERNEL_MACHINES.filter(({ absent }) => absent === undefined);

function check({ kernel, sizes }: Limited, seed: number): number {
  verifyKernel(kernel);
  expect(printKernel(parseKernel(printKernel(kernel)))).toBe(printKernel(kernel));
  const inputs = new Map<string, TypedArray>(
    kernel.buffers.flatMap((b, i) =>
      b.role === 'in' ? [[b.name, b.name === 'sizes' ? sizes : inputOf(b, seed + i)] as const] : [],
    ),
  );
  const [want, other] = evalTwice(kernel, inputs);
  const k =
    kernel.form.kind === 'contract' ? kernel.form.axes.reduce((n, a) => (a.role === 'k' ? n * a.extent : n), 1) : 64;
  let ran = 0;
  for (const machine of PRESENT) {
    for (const template of CPU_TEMPLATES) {
      if (template.form !== 'any' && template.form !== kernel.form.kind) continue;
      const rows = [new Set(['w']), new Set<string>()].flatMap((constant) =>
        template.candidates(kernel, { constant }, machine.features),
      );
      for (const params of new Map(rows.map((p) => [JSON.stringify(p), p])).values()) {
        const packed = new Map(inputs);
        for (const [name, packing] of template.packing?.(kernel, params) ?? [])
          packed.set(name, packWeight(inputs.get(name)!, kernel, packing));
        const loaded = loadKernel(kernel, { template: template.name, params }, packed, machine);
        const tiles = template.tiles(kernel, params);
        const cut = random(seed).below(tiles + 1);
        loaded.run(0, cut);
        loaded.run(cut, tiles);
        const label = `${printKernel(kernel)}\nsizes ${sizes}\nby ${template.name} ${JSON.stringify(params)} on ${machine.name}`;
        for (const b of kernel.buffers) {
          if (b.role !== 'out') continue;
          const [x, y, z] = [want.get(b.name)!, other.get(b.name)!, loaded.data.get(b.name)!];
          for (let i = 0; i < b.elements; i++) {
            if (!Object.is(x[i], y[i]) && x[i] !== y[i]) continue;
            const close = Math.abs(Number(x[i]) - Number(z[i])) <= 1e-6 * (k + 1) + 1e-6 * Math.abs(Number(x[i]));
            if (!Object.is(x[i], z[i]) && !close) expect.fail(`${label}: ${b.name}[${i}] is ${z[i]}, expected ${x[i]}`);
          }
        }
        expect(loaded.damagedGaps(), label).toEqual([]);
        ran++;
      }
    }
  }
  return ran;
}

function inputOf(b: Buffer, seed: number): TypedArray {
  const rnd = random(seed);
  if (b.dtype !== 'f32') return randomArray(rnd, b.dtype, b.elements);
  return Float32Array.from({ length: b.elements }, () => rnd.next() * 2 - 1);
}

const DRAW: Draw = {
  larger: 12,
  columns: [1, 8, 16, 17, 24, 32],
  nests: [
    [5, 7, 9],
    [13, 1, 64],
    [3, 2, 131],
    [2, 31, 3],
    [1, 1, 5003],
  ],
};

describe('limits', () => {
  const rnd = random(SEED);
  const cases = Array.from({ length: 210 }, (_, i) => {
    const made = drawKernel(rnd, i, DRAW);
    return [`${i} ${made.name}`, withLimits(made, random(SEED + i)), SEED + i] as const;
  });
  it.each(cases)('%s', (_, limited, seed) => {
    expect(check(limited, seed)).toBeGreaterThan(0);
  });

  it.each([
    ['another axis', e.axis('i'), 'is no part of a limit'],
    ['an index that varies', e.load('x', 'i32', e.load('x', 'i32', e.index(0))), 'no constant place'],
    ['a place outside', e.load('x', 'i32', e.index(4)), 'has 4 elements'],
    ['an out buffer', e.load('y', 'i32', e.index(0)), 'what is no in buffer'],
    ['another dtype', e.constant('f32', 1), 'is no part of a limit'],
  ])('a limit may not be %s', (_, limit, message) => {
    const kernel: Kernel = {
      name: 'k',
      form: { kind: 'map' },
      buffers: [
        { name: 'x', dtype: 'i32', elements: 4, role: 'in' },
        { name: 'y', dtype: 'i32', elements: 4, role: 'out' },
      ],
      axes: [{ name: 'i', extent: 4, limit }],
      body: [{ kind: 'store', buffer: 'y', index: e.axis('i'), value: e.index(1) }],
    };
    expect(
      findFaults(kernel)
        .map((f) => f.message)
        .join(),
    ).toContain(message);
  });
});
