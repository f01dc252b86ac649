/**
 * Tensor-core products by blocks that stay, against eval, run by the interpreter of PTX: tiles that follow each other in a block, windows,
 * tails of rows and columns, epilogues, fewer and more steps than stages. Outputs are poisoned; copies land as late as they may.
 */
import { describe, expect, test } from 'vitest';
import type { Kernel } from '../src/loop/ir.ts';
import { emitResident, type ResidentTile, residentBytes } from '../src/targets/cuda/gemm-resident.ts';
import { moduleText } from '../src/targets/cuda/ptx.ts';
import { residentRows, residentShape } from '../src/targets/cuda/tensor-cores-resident.ts';
import { assemble, ptxasIsPresent } from './ptx/ptxas.ts';
import { convKernel, gemmKernel } from './support/contract-kernels.ts';
import { closeTo, runEmitted, withDType } from './support/cuda-gemm.ts';

/** Runs a kernel with so many multiprocessors, so that their blocks have several tiles. */
function check(kernel: Kernel, tile: ResidentTile, multiprocessors: number, constant = new Set(['w'])): void {
  const shape = residentShape(kernel, { constant });
  expect(shape, 'the template takes it').toBeDefined();
  if (!shape) return;
  const run = runEmitted(kernel, shape, residentBytes(tile), (site) =>
    emitResident(site, shape, tile, multiprocessors),
  );
  closeTo(run, { ...tile, multiprocessors });
}

describe('products by blocks that stay', () => {
  test('1×1 with a residual: several tiles a block, whole rows and columns', () => {
    const conv = convKernel({ size: [16, 32], ic: 64, oc: 128, kernel: [1, 1], epilogue: 'bias-residual-relu' });
    check(withDType(conv, 'f16'), { bm: 128, bn: 64, stages: 3 }, 3);
    check(withDType(conv, 'bf16'), { bm: 256, bn: 64, stages: 4 }, 1);
  });
  test('3×3 with padding and stride, tails of rows and columns, more steps than stages', () => {
    const conv = convKernel({
      batch: 2,
      size: [13, 11],
      ic: 72,
      oc: 72,
      kernel: [3, 3],
      stride: 2,
      pad: 1,
      epilogue: 'bias-residual-relu',
    });
    check(withDType(conv, 'f16'), { bm: 128, bn: 64, stages: 3 }, 1);
    check(withDType(conv, 'f16'), { bm: 128, bn: 128, stages: 4 }, 1);
  });
  test('one step a tile, more stages than steps', () => {
    const conv = convKernel({ size: [20, 20], ic: 16, oc: 24, kernel: [1, 1], epilogue: 'bias' });
    check(withDType(conv, 'f16'), { bm: 128, bn: 64, stages: 6 }, 2);
  });
  test('the widest tile', () => {
    const conv = convKernel({ size: [15, 20], ic: 64, oc: 264, kernel: [1, 1], epilogue: 'bias-relu' });
    check(withDType(conv, 'f16'), { bm: 128, bn: 256, stages: 4 }, 2);
  });
  test('256 rows and 128 columns', () => {
    const conv = convKernel({ size: [15, 20], ic: 64, oc: 136, kernel: [1, 1], epilogue: 'bias-relu' });
    check(withDType(conv, 'f16'), { bm: 256, bn: 128, stages: 3 }, 2);
  });
  test('tiles as wide as the product', () => {
    for (const oc of [16, 48, 144]) {
      const conv = convKernel({ size: [12, 25], ic: 24, oc, kernel: [1, 1], epilogue: 'bias-residual-relu' });
      const kernel = withDType(conv, 'f16');
      const shape = residentShape(kernel, { constant: new Set(['w']) });
      const rows = shape ? residentRows({ ...shape, m: 1e6 }, 232448).filter(({ bm }) => bm === 128) : [];
      expect(rows.map(({ bn }) => bn)).toContain(oc);
      check(kernel, rows[0], 2);
    }
  });
  test('both operands activations', () => {
    const product = withDType(gemmKernel({ m: 200, n: 72, k: 136, transB: true, epilogue: 'bias' }), 'f16');
    check(product, { bm: 128, bn: 64, stages: 3 }, 1, new Set());
  });
  test.skipIf(!ptxasIsPresent())('ptxas takes it without a spilled register', () => {
    const conv = withDType(
      convKernel({
        size: [14, 14],
        batch: 8,
        ic: 256,
        oc: 1024,
        kernel: [3, 3],
        pad: 1,
        epilogue: 'bias-residual-relu',
      }),
      'f16',
    );
    const shape = residentShape(conv, { constant: new Set(['w']) });
    if (!shape) throw new Error('the template does not take it');
    for (const tile of [
      { bm: 128, bn: 256, stages: 4 },
      { bm: 256, bn: 128, stages: 4 },
    ]) {
      const site = { name: 'k', kernel: conv, alignments: conv.buffers.map(() => 64), programmatic: true };
      const said = assemble(moduleText(90, [emitResident(site, shape, tile, 132).code]), 'sm_90a', { verbose: true });
      expect(said).toContain('0 bytes spill stores');
      expect(said).not.toMatch(/error|serialized|setmaxnreg ignored/i);
    }
  });
});
