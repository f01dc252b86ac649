/** Which steps may run at the same time, against every byte that they touch. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { BufferRef, Step } from '../../engine/engine.ts';
import { add, axis, constant, index, load, mul } from '../../loop/expr.ts';
import type { Kernel, Stmt } from '../../loop/ir.ts';
import { independent, touchesOf } from './independent.ts';

/** y[Σ stride·axis + first] = 0 over axes of the extents. */
interface Stores {
  readonly axes: readonly (readonly [extent: number, stride: number])[];
  readonly first: number;
}

const stores: fc.Arbitrary<Stores> = fc.record({
  axes: fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.constantFrom(1, 2, 3, 6, 12)), { maxLength: 3 }),
  first: fc.nat(7),
});

const elementsOf = ({ axes, first }: Stores): number[] =>
  axes.reduce<number[]>((at, [n, s]) => at.flatMap((x) => Array.from({ length: n }, (_, i) => x + i * s)), [first]);

function kernelOf(s: Stores): Kernel {
  const at = s.axes.reduce((sum, [, stride], i) => add(sum, mul(axis(`a${i}`), index(stride))), index(s.first));
  return {
    name: 'k',
    form: { kind: 'map' },
    buffers: [{ name: 'y', dtype: 'f16', elements: Math.max(...elementsOf(s)) + 1, role: 'out' }],
    axes: s.axes.map(([extent], i) => ({ name: `a${i}`, extent })),
    body: [{ kind: 'store', buffer: 'y', index: at, value: constant('f16', 0) }],
  };
}

const stepOn = (...buffers: BufferRef[]): Pick<Step, 'buffers'> => ({ buffers });
const arena = (byteOffset: number, bytes: number): BufferRef => ({ space: 'arena', byteOffset, bytes });

test('steps that write a byte in common are never independent', () => {
  const property = fc.property(stores, stores, fc.nat(9), fc.nat(9), (a, b, atA, atB) => {
    const [x, y] = [[a, atA] as const, [b, atB] as const].map(([s, at]) => {
      const kernel = kernelOf(s);
      const touches = touchesOf(stepOn(arena(2 * at, 2 * kernel.buffers[0].elements)), kernel);
      return { touches, elements: new Set(elementsOf(s).map((e) => e + at)) };
    });
    const meet = [...x.elements].some((e) => y.elements.has(e));
    return !(meet && independent(x.touches, y.touches));
  });
  fc.assert(property, { numRuns: 3000 });
});

test('parts of a concatenation that lie interleaved are independent', () => {
  const part = (channels: number, at: number) => {
    const kernel = kernelOf({
      axes: [
        [3, 10],
        [channels, 1],
      ],
      first: 0,
    });
    return touchesOf(stepOn(arena(2 * at, 2 * kernel.buffers[0].elements)), kernel);
  };
  expect(independent(part(4, 0), part(6, 4))).toBe(true);
  expect(independent(part(6, 4), part(4, 0))).toBe(true);
  expect(independent(part(5, 0), part(6, 4))).toBe(false);
  expect(independent(part(4, 0), part(6, 5))).toBe(false);
});

test('what one reads another may read, and not write', () => {
  const kernel: Kernel = {
    name: 'k',
    form: { kind: 'map' },
    buffers: [
      { name: 'x', dtype: 'f32', elements: 4, role: 'in' },
      { name: 'y', dtype: 'f32', elements: 4, role: 'out' },
    ],
    axes: [],
    body: [],
  };
  const step = (from: number, to: number) => touchesOf(stepOn(arena(from, 16), arena(to, 16)), kernel);
  expect(independent(step(0, 16), step(0, 32))).toBe(true);
  expect(independent(step(0, 32), step(8, 48))).toBe(true);
  expect(independent(step(0, 16), step(16, 32))).toBe(false);
  expect(independent(step(16, 32), step(0, 24))).toBe(false);
  expect(independent(step(0, 16), step(32, 16))).toBe(false);
});

test('what a step makes and looks at again counts as read', () => {
  const again: Kernel = {
    ...kernelOf({
      axes: [
        [3, 10],
        [4, 1],
      ],
      first: 0,
    }),
    body: [
      {
        kind: 'store',
        buffer: 'y',
        index: add(mul(axis('a0'), index(10)), axis('a1')),
        value: load('y', 'f16', index(5)),
      },
    ],
  };
  const other = kernelOf({
    axes: [
      [3, 10],
      [6, 1],
    ],
    first: 0,
  });
  const [a, b] = [touchesOf(stepOn(arena(0, 48)), again), touchesOf(stepOn(arena(8, 52)), other)];
  expect(a.map(({ writes }) => writes)).toEqual([false, true]);
  // It stores to 0 to 3 of each ten, but reads the 5th.
  expect(independent(a, b)).toBe(false);
  expect(independent(b, a)).toBe(false);
});

test('of loops with axes of one name the longest tells', () => {
  const store = (buffer: string): Stmt => ({ kind: 'store', buffer, index: axis('i'), value: constant('f16', 0) });
  const loop = (extent: number, buffer: string): Stmt => ({
    kind: 'for',
    axis: { name: 'i', extent },
    body: [store(buffer)],
  });
  const kernel: Kernel = {
    ...kernelOf({ axes: [], first: 0 }),
    buffers: ['y', 'z'].map((name) => ({ name, dtype: 'f16', elements: 9, role: 'out' })),
    axes: [{ name: 'r', extent: 3 }],
    body: [
      {
        ...loop(4, 'y'),
        body: [
          { kind: 'store', buffer: 'y', index: add(mul(axis('r'), index(8)), axis('i')), value: constant('f16', 0) },
        ],
      } as Stmt,
      loop(2, 'z'),
    ],
  };
  const [touch] = touchesOf(stepOn(arena(0, 48), arena(64, 18)), kernel);
  expect([touch.period, touch.run]).toEqual([16, 8]);
});
