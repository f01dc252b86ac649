import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bindDim, type Dim, sym } from '../core/shape.ts';
import { staticWindow, trimWindow, type WindowAttrs, windowOutput } from './window.ts';

const ATTRS: WindowAttrs = { auto_pad: 'NOTSET', dilations: undefined, pads: undefined, strides: undefined };
const fail = (message: string): never => {
  throw new Error(message);
};
const output = (attrs: Partial<WindowAttrs>, input: readonly Dim[], kernel: readonly number[], ceilMode = false) =>
  windowOutput({ attrs: { ...ATTRS, ...attrs }, input, kernel, ceilMode, freshDim: sym, fail });

const geometry = fc.record({
  size: fc.integer({ min: 1, max: 12 }),
  kernel: fc.integer({ min: 1, max: 4 }),
  stride: fc.integer({ min: 1, max: 4 }),
  dilation: fc.integer({ min: 1, max: 3 }),
  begin: fc.integer({ min: 0, max: 3 }),
  end: fc.integer({ min: 0, max: 3 }),
});

describe('explicit pads', () => {
  it('gives one output for every place at which the window fits', () => {
    fc.assert(
      fc.property(geometry, ({ size, kernel, stride, dilation, begin, end }) => {
        const span = (kernel - 1) * dilation + 1;
        fc.pre(size + begin + end >= span);
        let places = 0;
        for (let at = -begin; at + span <= size + end; at += stride) places++;
        const attrs = { strides: [stride], dilations: [dilation], pads: [begin, end] };
        expect(output(attrs, [size], [kernel])).toEqual([places]);
      }),
    );
  });

  it('with ceil_mode adds the window that sticks out, unless it starts in the padding', () => {
    fc.assert(
      fc.property(geometry, ({ size, kernel, stride, dilation, begin, end }) => {
        const span = (kernel - 1) * dilation + 1;
        // Pads are smaller than the kernel in every runtime, so at most one window starts in the end padding.
        fc.pre(size + begin + end >= span && end < kernel);
        let places = 1;
        while (places * stride - begin < size && places * stride - stride + span < size + begin + end) places++;
        const attrs = { strides: [stride], dilations: [dilation], pads: [begin, end] };
        expect(output(attrs, [size], [kernel], true)).toEqual([places]);
      }),
    );
  });
});

describe('auto_pad SAME', () => {
  it.each(['SAME_UPPER', 'SAME_LOWER'])('%s gives ceil(size / stride) and pads that hold the windows', (auto_pad) => {
    fc.assert(
      fc.property(geometry, ({ size, kernel, stride, dilation }) => {
        const attrs = { ...ATTRS, auto_pad, strides: [stride], dilations: [dilation] };
        const [count] = output(attrs, [size], [kernel]) as number[];
        expect(count).toBe(Math.ceil(size / stride));
        const [w] = staticWindow(attrs, [size], [kernel], [count]);
        const excess = auto_pad === 'SAME_UPPER' ? w.padEnd - w.padBegin : w.padBegin - w.padEnd;
        expect([0, 1]).toContain(excess);
        expect((count - 1) * stride + (kernel - 1) * dilation + 1).toBeLessThanOrEqual(size + w.padBegin + w.padEnd);
      }),
    );
  });
});

it('tells symbolic sizes that the known sizes satisfy', () => {
  fc.assert(
    fc.property(geometry, fc.boolean(), ({ size, kernel, stride, dilation, begin, end }, ceilMode) => {
      const span = (kernel - 1) * dilation + 1;
      fc.pre(stride === 1 && size + begin + end >= span);
      const attrs = { strides: [stride], dilations: [dilation], pads: [begin, end] };
      const [open] = output(attrs, [sym('h')], [kernel], ceilMode);
      const bound = bindDim(open, new Map([['h', size]]));
      const known = output(attrs, [size], [kernel], ceilMode)[0];
      expect([known, 'fresh']).toContainEqual(typeof bound === 'number' ? bound : 'fresh');
    }),
  );
});

it('a window without its idle taps reads the same of the input, and fits as often', () => {
  const wide = fc.record({
    size: fc.integer({ min: 1, max: 9 }),
    kernel: fc.integer({ min: 1, max: 5 }),
    stride: fc.integer({ min: 1, max: 3 }),
    dilation: fc.integer({ min: 1, max: 9 }),
    begin: fc.integer({ min: 0, max: 40 }),
    end: fc.integer({ min: 0, max: 40 }),
  });
  fc.assert(
    fc.property(wide, ({ size, kernel, stride, dilation, begin, end }) => {
      const attrs = { ...ATTRS, pads: [begin, end], strides: [stride], dilations: [dilation] };
      fc.pre(size + begin + end >= (kernel - 1) * dilation + 1);
      const out = output(attrs, [size], [kernel]) as number[];
      const [whole] = staticWindow(attrs, [size], [kernel], out);
      const { window, first } = trimWindow(whole);
      const reads = (w: typeof whole, shift: number): string[] =>
        Array.from({ length: w.output * w.kernel }, (_, i) => [Math.floor(i / w.kernel), i % w.kernel])
          .map(([o, tap]) => ({ o, tap: tap + shift, at: o * w.stride + tap * w.dilation - w.padBegin }))
          .filter(({ at }) => at >= 0 && at < size)
          .map(({ o, tap, at }) => `${o} ${tap} ${at}`);
      expect(reads(window, first)).toEqual(reads(whole, 0));
      const pads = [window.padBegin, window.padEnd];
      expect(Math.min(...pads, window.kernel - 1)).toBeGreaterThanOrEqual(0);
      expect(output({ ...attrs, pads }, [size], [window.kernel])).toEqual(out);
    }),
  );
});

describe('what does not fit is refused', () => {
  it.each([
    [{ strides: [0] }, /strides is \[0\]/],
    [{ strides: [1, 1] }, /strides has 2 values, expected 1/],
    [{ dilations: [0] }, /dilations is \[0\]/],
    [{ pads: [1] }, /pads has 1 values, expected 2/],
    [{ pads: [-1, 0] }, /no negative/],
    [{}, /the window spans 5 along spatial dim 0, the input has 3/],
  ])('%o', (attrs, message) => {
    expect(() => output(attrs, [3], [5])).toThrow(message);
  });
});
