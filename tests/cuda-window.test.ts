/**
 * Convolutions that keep their window in shared memory, against eval, run by the interpreter of PTX: stems whose places are 8 channels,
 * more channels, strides, rows that end within a tile, several images and tiles a block. Outputs are poisoned.
 */
import { describe, expect, test } from 'vitest';
import type { Kernel } from '../src/loop/ir.ts';
import { gemmShape } from '../src/targets/cuda/gemm-tiles.ts';
import { emitWindow, windowBytes } from '../src/targets/cuda/gemm-window.ts';
import { type WindowTile, windowShape } from '../src/targets/cuda/gemm-window-plan.ts';
import { moduleText } from '../src/targets/cuda/ptx.ts';
import { assemble, ptxasIsPresent } from './ptx/ptxas.ts';
import { type ConvSpec, convKernel } from './support/contract-kernels.ts';
import { closeTo, runEmitted, withDType } from './support/cuda-gemm.ts';

const shapeOf = (kernel: Kernel) => {
  const gemm = gemmShape(kernel, { constant: new Set(['w']) });
  return gemm && windowShape(gemm);
};

function check(spec: ConvSpec, tile: WindowTile, multiprocessors: number, dtype: 'f16' | 'bf16' = 'f16'): void {
  const kernel = withDType(convKernel(spec), dtype);
  const shape = shapeOf(kernel);
  expect(shape, 'the template takes it').toBeDefined();
  if (!shape) return;
  const run = runEmitted(kernel, shape.gemm, windowBytes(shape, tile), (site) =>
    emitWindow(site, shape, tile, multiprocessors),
  );
  closeTo(run, { ...spec, ...tile });
}

describe('convolutions with their window in shared memory', () => {
  test('a packed stem: 8 channels, steps of two rows, padded above and below', () => {
    const stem = { ic: 8, oc: 64, kernel: [7, 4], stride: [2, 1], pad: [3, 0], epilogue: 'bias-relu' } as const;
    check({ ...stem, size: [7, 60 + 3] }, { rows: 2, stages: 2 }, 1);
    check({ ...stem, size: [5, 112 + 3], batch: 2, oc: 32 }, { rows: 2, stages: 3 }, 3);
  });
  test('3×3 of 64 channels, padded on all sides, a residual', () => {
    check(
      { size: [3, 50], batch: 2, ic: 64, oc: 16, kernel: [3, 3], pad: 1, epilogue: 'bias-residual-relu' },
      { rows: 2, stages: 2 },
      1,
    );
  });
  test('several rows a warpgroup, another type, few columns', () => {
    check(
      { size: [8, 61], ic: 16, oc: 48, kernel: [3, 3], pad: 1, epilogue: 'bias' },
      { rows: 4, stages: 2 },
      1,
      'bf16',
    );
    check({ size: [10, 50], ic: 16, oc: 16, kernel: [3, 1], pad: [1, 0], epilogue: 'bias' }, { rows: 2, stages: 3 }, 2);
  });
  test('what it leaves to others: rows much shorter than products, steps along a row, one row of taps', () => {
    const conv = { ic: 64, oc: 64, kernel: [3, 3], pad: 1, epilogue: 'bias' } as const;
    const taken = (spec: ConvSpec): boolean => shapeOf(withDType(convKernel(spec), 'f16')) !== undefined;
    expect(taken({ ...conv, size: [56, 56] })).toBe(true);
    expect(taken({ ...conv, size: [28, 28] })).toBe(false);
    expect(taken({ ...conv, size: [112, 112], stride: 2 })).toBe(false);
    expect(taken({ ...conv, size: [56, 56], kernel: [1, 1], pad: 0 })).toBe(false);
    expect(taken({ ...conv, size: [56, 56], oc: 256 })).toBe(false);
  });
  test.skipIf(!ptxasIsPresent())('ptxas takes it without a spilled register', () => {
    const stem = { size: [224, 115], batch: 8, ic: 8, oc: 64, kernel: [7, 4], stride: [2, 1], pad: [3, 0] } as const;
    const square = { size: [56, 56], batch: 8, ic: 64, oc: 64, kernel: [3, 3], pad: 1 } as const;
    for (const [spec, tile] of [
      [
        { ...stem, epilogue: 'bias-relu' },
        { rows: 2, stages: 3 },
      ],
      [
        { ...square, epilogue: 'bias-residual-relu' },
        { rows: 2, stages: 3 },
      ],
    ] as const) {
      const kernel = withDType(convKernel(spec), 'f16');
      const shape = shapeOf(kernel);
      if (!shape) throw new Error('the template does not take it');
      const site = { name: 'k', kernel, alignments: kernel.buffers.map(() => 64), programmatic: true };
      const said = assemble(moduleText(90, [emitWindow(site, shape, tile, 132).code]), 'sm_90a', { verbose: true });
      expect(said).toContain('0 bytes spill stores');
      expect(said).not.toMatch(/error|serialized|setmaxnreg ignored/i);
    }
  });
});
