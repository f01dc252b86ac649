import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bug } from './errors.ts';
import {
  addDims,
  bindDim,
  broadcastShapes,
  type Dim,
  dimsEqual,
  elements,
  floorDivDims,
  mulDims,
  normalizeAxis,
  printDim,
  rowMajorStrides,
  staticShape,
  subDims,
  sym,
} from './shape.ts';

/** A linear dim over n and m, and its value for given sizes. */
const linear = fc
  .tuple(fc.integer({ min: -4, max: 4 }), fc.integer({ min: -4, max: 4 }), fc.integer({ min: -9, max: 9 }))
  .map(([n, m, c]) => ({
    dim: addDims(addDims(mulDims(n, sym('n')), mulDims(m, sym('m'))), c) as Dim,
    at: (sizes: ReadonlyMap<string, number>) => n * (sizes.get('n') ?? 0) + m * (sizes.get('m') ?? 0) + c,
  }));
const sizes = fc.tuple(fc.nat(50), fc.nat(50)).map(
  ([n, m]) =>
    new Map([
      ['n', n],
      ['m', m],
    ]),
);

describe('dims', () => {
  it('add, subtract, scale and divide as numbers do once they are bound', () => {
    fc.assert(
      fc.property(linear, linear, sizes, fc.integer({ min: 1, max: 6 }), (a, b, bound, k) => {
        const value = (dim: Dim) => bindDim(dim, bound);
        expect(value(addDims(a.dim, b.dim))).toBe(a.at(bound) + b.at(bound));
        expect(value(subDims(a.dim, b.dim))).toBe(a.at(bound) - b.at(bound));
        expect(value(mulDims(k, a.dim))).toBe(k * a.at(bound));
        const quotient = floorDivDims(a.dim, k);
        const isLinear = typeof quotient === 'number' || quotient.terms.every((t) => t.name === 'n' || t.name === 'm');
        if (isLinear) expect(value(quotient)).toBe(Math.floor(a.at(bound) / k));
        expect(value(floorDivDims(mulDims(k, a.dim), k))).toBe(a.at(bound));
      }),
    );
  });

  it('are equal exactly where they have equal normal forms', () => {
    fc.assert(
      fc.property(linear, linear, (a, b) => {
        expect(dimsEqual(addDims(a.dim, b.dim), addDims(b.dim, a.dim))).toBe(true);
        expect(subDims(a.dim, a.dim)).toBe(0);
        expect(dimsEqual(a.dim, addDims(a.dim, 1))).toBe(false);
      }),
    );
  });

  it('print as formulas', () => {
    expect(printDim(addDims(mulDims(2, sym('n')), -1))).toBe('2*n-1');
    expect(printDim(mulDims(sym('b'), sym('a')))).toBe('(a)*(b)');
    expect(printDim(floorDivDims(addDims(sym('n'), 1), 2))).toBe('floor((n+1)/(2))');
    expect(floorDivDims(sym('n'), sym('n'))).toBe(1);
    expect(floorDivDims(mulDims(7, addDims(sym('n'), 1)), mulDims(2, addDims(sym('n'), 1)))).toBe(3);
    expect(dimsEqual(mulDims(sym('a'), sym('b')), mulDims(sym('b'), sym('a')))).toBe(true);
  });
});

describe('shapes', () => {
  it('broadcast as NumPy does', () => {
    expect(broadcastShapes([2, 1, 5], [3, 1])).toEqual([2, 3, 5]);
    expect(broadcastShapes([], [0, 1])).toEqual([0, 1]);
    expect(broadcastShapes([0], [1])).toEqual([0]);
    expect(broadcastShapes([2], [3])).toBeUndefined();
    expect(broadcastShapes([sym('n'), 1], [1, 4])).toEqual([sym('n'), 4]);
    expect(broadcastShapes([sym('n')], [7])).toEqual([7]);
    fc.assert(
      fc.property(fc.array(fc.nat(3)), fc.array(fc.nat(3)), (a, b) => {
        expect(broadcastShapes(a, b)).toEqual(broadcastShapes(b, a));
        expect(broadcastShapes(a, a)).toEqual(a);
      }),
    );
  });

  it('have row-major strides that number the elements in order', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 4 }), (shape) => {
        const strides = rowMajorStrides(shape);
        const last = shape.reduce((sum, d, i) => sum + (d - 1) * strides[i], 0);
        expect(last).toBe(elements(shape) - 1);
        expect(strides.at(-1) ?? 1).toBe(1);
      }),
    );
  });

  it('count axes from both ends', () => {
    expect([-3, -1, 0, 2].map((axis) => normalizeAxis(axis, 3))).toEqual([0, 2, 0, 2]);
    expect([normalizeAxis(3, 3), normalizeAxis(-4, 3), normalizeAxis(0, 0)]).toEqual([undefined, undefined, undefined]);
  });

  it('must be bound before numbers are asked for', () => {
    expect(staticShape([1, 2])).toEqual([1, 2]);
    expect(() => staticShape([sym('n')])).toThrow(Bug);
  });
});
