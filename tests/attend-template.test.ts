/**
 * The template `attend` on every machine that runs kernels, against softmax row by row in float64: shapes with odd tails, shared heads,
 * masks, one block of keys and several, tiles done in any cut.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DTYPES, type TypedArray } from '../src/core/dtype.ts';
import type { Kernel } from '../src/loop/ir.ts';
import { printKernel } from '../src/loop/print.ts';
import { verifyKernel } from '../src/loop/verify.ts';
import { attend } from '../src/targets/cpu/attend.ts';
import { planAttend } from '../src/targets/cpu/attend-plan.ts';
import { tilesFor } from '../src/targets/cpu/contract-templates.ts';
import type { Params } from '../src/targets/target.ts';
import { hash } from './random.ts';
import { random } from './random-kernel.ts';
import { type AttendShape, attendOf, expectedAttend } from './support/attend-kernels.ts';
import { KERNEL_MACHINES, type KernelMachine, loadKernel } from './support/kernel-runner.ts';
import { evalTwice, withLimits } from './support/limited-kernels.ts';

const NONE: ReadonlySet<string> = new Set();

const shapes = (): fc.Arbitrary<AttendShape> =>
  fc.record({
    batch: fc.constantFrom(1, 2),
    heads: fc.constantFrom(1, 3),
    group: fc.constantFrom(1, 2),
    queries: fc.constantFrom(2, 3, 5, 12, 13, 29, 50),
    keys: fc.constantFrom(2, 3, 7, 16, 17, 33, 49, 100),
    inner: fc.constantFrom(2, 3, 8, 17),
    value: fc.constantFrom(16, 48, 80),
    layout: fc.constantFrom('heads', 'tokens', 'turned'),
    mask: fc.constantFrom('none', 'key', 'full', 'head', 'bool'),
    scale: fc.constantFrom(1, 0.125),
    empty: fc.constantFrom('nan', 'zero'),
    epilogue: fc.constantFrom('none', 'bias-relu'),
  });

function inputsOf(kernel: Kernel, seed: number): Map<string, TypedArray> {
  return new Map(
    kernel.buffers
      .filter((b) => b.role === 'in')
      .map((b, i) => {
        const data = new DTYPES[b.dtype].array(b.elements) as Float32Array;
        for (let j = 0; j < data.length; j++) {
          const x = 4 * hash(seed + i, j) - 2;
          data[j] = b.dtype === 'bool' ? Number(x > -1) : b.name === 'mask' && x > 1.5 ? Number.NEGATIVE_INFINITY : x;
        }
        return [b.name, data];
      }),
  );
}

/** Rows of tactics, each with all keys in a block and with few, so that sums are carried from block to block. */
const tacticsOf = ({ value }: AttendShape, machine: KernelMachine): readonly Params[] =>
  tilesFor(machine.features)
    .filter(({ lanes }) => value % lanes === 0)
    .flatMap((row) => [
      { ...row, keys: 512 },
      { ...row, keys: row.lanes * 2 },
    ]);

/**
 * Weights are at most 1 and add to 1, values at most 2: what errs is the scores, sums of up to 17 products below 4, by some units of
 * 2^-24 each, which move weights by as much in relation.
 */
const WITHIN = 5e-5;

function check(
  shape: AttendShape,
  machine: KernelMachine,
  params: Params,
  seed: number,
  spoil = (_: Map<string, TypedArray>) => {},
) {
  const kernel = attendOf(shape);
  const inputs = inputsOf(kernel, seed);
  spoil(inputs);
  const loaded = loadKernel(kernel, { template: 'attend', params }, inputs, machine);
  const tiles = attend.tiles(kernel, params);
  // In three pieces, the last one first: tiles know nothing of each other.
  const cuts = [0, Math.floor(hash(seed, 1) * (tiles + 1)), Math.floor(hash(seed, 2) * (tiles + 1)), tiles].sort(
    (a, b) => a - b,
  );
  for (const i of [2, 0, 1]) loaded.run(cuts[i], cuts[i + 1]);
  const wanted = expectedAttend(shape, inputs);
  const got = loaded.data.get('y') as Float32Array;
  const far = [...wanted].findIndex((y, i) =>
    Number.isNaN(y) ? !Number.isNaN(got[i]) : !(Math.abs(got[i] - y) <= WITHIN),
  );
  const where = `${JSON.stringify(shape)} ${JSON.stringify(params)} seed ${seed}`;
  expect(far < 0 ? '' : `element ${far} is ${got[far]}, expected ${wanted[far]}: ${where}`).toBe('');
  expect(loaded.damagedGaps(), where).toEqual([]);
}

/** Against eval: what it stores must be there. Behind a limit a register tile may store what nobody reads, inside the buffer. */
function checkLimited(kernel: Kernel, sizes: Int32Array, machine: KernelMachine, params: Params, seed: number): void {
  const inputs = inputsOf(kernel, seed).set('sizes', sizes);
  const [one, two] = evalTwice(kernel, inputs);
  const loaded = loadKernel(kernel, { template: 'attend', params }, inputs, machine);
  const tiles = attend.tiles(kernel, params);
  const cut = Math.floor(hash(seed, 3) * (tiles + 1));
  loaded.run(cut, tiles);
  loaded.run(0, cut);
  const [x, y, got] = [one, two, loaded.data].map((data) => data.get('y') as Float32Array);
  const far = [...x].findIndex(
    (want, i) => Object.is(want, y[i]) && !(Object.is(want, got[i]) || Math.abs(want - got[i]) <= WITHIN),
  );
  const where = `${printKernel(kernel)} sizes ${sizes} ${JSON.stringify(params)} seed ${seed}`;
  expect(far < 0 ? '' : `element ${far} is ${got[far]}, expected ${x[far]}: ${where}`).toBe('');
  expect(loaded.damagedGaps(), where).toEqual([]);
}

describe.each(KERNEL_MACHINES)('$name', (machine) => {
  const skip = machine.absent !== undefined;

  it.skipIf(skip)('computes random attends', () => {
    fc.assert(
      fc.property(shapes(), fc.nat(), fc.nat(), (shape, pick, seed) => {
        const tactics = tacticsOf(shape, machine);
        check(shape, machine, tactics[pick % tactics.length], seed);
      }),
      { numRuns: 30 },
    );
  });

  it.skipIf(skip)('computes random attends that end at sizes known at run time', () => {
    let ran = 0;
    fc.assert(
      fc.property(shapes(), fc.nat(), fc.nat(), (shape, pick, seed) => {
        const { kernel, sizes } = withLimits(attendOf(shape), random(seed));
        verifyKernel(kernel);
        if (!planAttend(kernel)) return;
        ran++;
        const tactics = tacticsOf(shape, machine);
        checkLimited(kernel, sizes, machine, tactics[pick % tactics.length], seed);
      }),
      { numRuns: 40 },
    );
    expect(ran).toBeGreaterThan(0);
  });

  const plain: AttendShape = {
    batch: 1,
    heads: 2,
    group: 1,
    queries: 29,
    keys: 49,
    inner: 8,
    value: 32,
    layout: 'tokens',
    mask: 'key',
    scale: 0.5,
    empty: 'nan',
    epilogue: 'none',
  };
  it.skipIf(skip).each<[string, (inputs: Map<string, TypedArray>) => void]>([
    ['huge scores', (x) => x.get('q')?.fill(1e15 as never, 0, 200)],
    ['a NaN among the keys', (x) => x.get('k')?.fill(Number.NaN as never, 40, 41)],
    ['a score of inf', (x) => x.get('mask')?.fill(Number.POSITIVE_INFINITY as never, 20, 21)],
    ['the least finite mask', (x) => x.get('mask')?.fill(-3.4028234663852886e38 as never)],
    ['all keys masked', (x) => x.get('mask')?.fill(Number.NEGATIVE_INFINITY as never)],
    ['the first keys masked', (x) => x.get('mask')?.fill(Number.NEGATIVE_INFINITY as never, 0, 40)],
    ['the last keys masked', (x) => x.get('mask')?.fill(Number.NEGATIVE_INFINITY as never, 5)],
  ])('%s', (_, spoil) => {
    for (const empty of ['nan', 'zero'] as const) {
      const shape = { ...plain, empty };
      for (const params of tacticsOf(shape, machine).slice(-2)) check(shape, machine, params, 3, spoil);
    }
  });

  it.skipIf(skip)('offers nothing for a handful of queries and for values that fill no vector', () => {
    const rows = (shape: AttendShape): number =>
      attend.candidates(attendOf(shape), { constant: NONE }, machine.features).length;
    expect(rows(plain)).toBeGreaterThan(0);
    expect(rows({ ...plain, queries: 8 })).toBe(0);
    expect(rows({ ...plain, value: 6 })).toBe(0);
  });
});
