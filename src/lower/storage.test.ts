import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { elements, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { affineAxis } from '../loop/affine.ts';
import {
  affineView,
  type Block,
  channelsLastOrder,
  isRowMajor,
  orderForReshape,
  orderOf,
  partOf,
  reshapeStorage,
  rowMajorOrder,
  type Storage,
  span,
  stridesOf,
} from './storage.ts';

const block = (size: number): Block => ({ id: 0, name: 'v', dtype: 'f32', elements: size, space: 'arena' });
const dense = (shape: StaticShape, order = rowMajorOrder(shape.length)): Storage => ({
  block: block(elements(shape)),
  offset: 0,
  shape,
  strides: stridesOf(shape, order),
});

/** Offsets in the block of all elements, in row-major order of the shape. */
function offsets(s: Storage): number[] {
  const strides = rowMajorStrides(s.shape);
  return Array.from({ length: elements(s.shape) }, (_, i) =>
    s.shape.reduce((sum, extent, d) => sum + (Math.floor(i / strides[d]) % extent) * s.strides[d], s.offset),
  );
}

const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 0, maxLength: 4 });
const ordered = shapes.chain((shape) =>
  fc.shuffledSubarray(rowMajorOrder(shape.length), { minLength: shape.length }).map((order) => ({ shape, order })),
);

/** Another shape of as many elements: prime factors dealt out anew, with ones between. */
const reshaped = (count: number) =>
  fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 8, maxLength: 8 }).map((deal) => {
    const shape = [1, 1, 1, 1];
    let rest = count;
    for (let p = 2, i = 0; rest > 1; ) {
      if (rest % p === 0) {
        shape[deal[i++ % deal.length]] *= p;
        rest /= p;
      } else p++;
    }
    return shape;
  });

describe('storage', () => {
  it('reshape views have the same elements in the same order, and exist for every row-major value', () => {
    fc.assert(
      fc.property(
        ordered.chain((o) => reshaped(elements(o.shape)).map((to) => ({ ...o, to }))),
        ({ shape, order, to }) => {
          const source = dense(shape, order);
          const view = reshapeStorage(source, to);
          if (isRowMajor(source)) expect(view).toBeDefined();
          if (view) expect(offsets(view)).toEqual(offsets(source));
        },
      ),
    );
  });

  it('a copy in the order for a reshape can be seen so, has all dims, and is the source in its own order where that can', () => {
    fc.assert(
      fc.property(
        ordered.chain((o) => reshaped(elements(o.shape)).map((to) => ({ ...o, to }))),
        ({ shape, order, to }) => {
          const source = dense(shape, order);
          const wanted = orderForReshape(source, to);
          expect(wanted.toSorted((a, b) => a - b)).toEqual(rowMajorOrder(shape.length));
          const copy = dense(shape, wanted);
          expect(reshapeStorage(copy, to)).toBeDefined();
          if (reshapeStorage(source, to)) expect(offsets(copy)).toEqual(offsets(source));
        },
      ),
    );
    // Shuffled channels stay innermost.
    const view: Storage = { ...dense([3, 2, 5, 7]), strides: [1, 3, 42, 6] };
    expect(orderForReshape(view, [6, 5, 7])).toEqual([2, 3, 0, 1]);
    // Heads that are shared, 2 of 3 each, stay outside of what a head has: positions by 8 elements.
    const heads: Storage = { ...dense([3, 2, 5, 8]), strides: [40, 0, 8, 1] };
    expect(orderForReshape(heads, [6, 5, 8])).toEqual([0, 1, 2, 3]);
    expect(orderOf(heads)).toEqual([0, 1, 2, 3]);
  });

  it('says undefined where strides cannot express the reshape', () => {
    expect(reshapeStorage(dense([2, 3], [1, 0]), [6])).toBeUndefined();
  });

  it('merges the spatial dims of a channels-last value into a view', () => {
    const view = reshapeStorage(dense([1, 5, 2, 3], channelsLastOrder(4)), [1, 5, 6]);
    expect(view?.strides.slice(1)).toEqual([1, 5]);
  });

  it('finds the order that strides were made from', () => {
    fc.assert(
      fc.property(ordered, ({ shape, order }) => {
        const s = dense(shape, order);
        expect(offsets({ ...s, strides: stridesOf(shape, orderOf(s)) })).toEqual(offsets(s));
      }),
    );
  });

  it('spans from the first element to the last', () => {
    fc.assert(
      fc.property(ordered, ({ shape, order }) => {
        const s = dense(shape, order);
        expect(span(s)).toBe(Math.max(...offsets(s)) - Math.min(...offsets(s)) + 1);
      }),
    );
    expect(span(dense([2, 0, 3]))).toBe(0);
  });

  it('views transposes, steps and broadcasts, and no negative steps', () => {
    const s = dense([4, 6]);
    const transposed = affineView(s, [affineAxis('d1'), affineAxis('d0')], [6, 4], ['d0', 'd1']);
    expect(transposed?.strides).toEqual([1, 6]);
    const everyOther = affineView(s, [affineAxis('d0', 1, 1), affineAxis('d1', 2)], [3, 3], ['d0', 'd1']);
    expect(everyOther && offsets(everyOther)).toEqual([6, 8, 10, 12, 14, 16, 18, 20, 22]);
    const stretched = affineView(s, [affineAxis('d1'), affineAxis('d2')], [5, 4, 6], ['d0', 'd1', 'd2']);
    expect(stretched?.strides).toEqual([0, 6, 1]);
    expect(affineView(s, [affineAxis('d0', -1, 3), affineAxis('d1')], [4, 6], ['d0', 'd1'])).toBeUndefined();
  });

  it('places parts of a concatenation side by side', () => {
    const whole = dense([2, 5]);
    expect(offsets(partOf(whole, 1, 3, [2, 2]))).toEqual([3, 4, 8, 9]);
  });
});
