/**
 * The tensor-core products against eval, run by the interpreter of PTX: every form of operand, tile and tail. Outputs are poisoned.
 */
import { describe, expect, test } from 'vitest';
import { contractKernel } from '../src/loop/contract.ts';
import * as e from '../src/loop/expr.ts';
import type { Kernel } from '../src/loop/ir.ts';
import { emitGemm } from '../src/targets/cuda/gemm-emit.ts';
import { gemmShape, type TileParams, tileRows } from '../src/targets/cuda/gemm-tiles.ts';
import { moduleText } from '../src/targets/cuda/ptx.ts';
import { assemble, ptxasIsPresent } from './ptx/ptxas.ts';
import { convKernel, gemmKernel } from './support/contract-kernels.ts';
import { closeTo, runTensorCores, withDType } from './support/cuda-gemm.ts';

const FACTS = { constant: new Set(['w']), tf32: true };
const CHIP = { sharedBytesPerBlock: 232448, clusters: true, warpgroups: true };

function check(kernel: Kernel, rows: (rows: TileParams[]) => TileParams[], constant = new Set(['w'])): void {
  const facts = { ...FACTS, constant };
  const shape = gemmShape(kernel, facts);
  expect(shape, 'the tensor cores take it').toBeDefined();
  if (!shape) return;
  const chosen = rows(tileRows(shape, CHIP));
  expect(chosen.length).toBeGreaterThan(0);
  for (const tile of chosen) closeTo(runTensorCores(kernel, shape, tile), tile);
}

/** Every tile once, with as many stages and splits as it has on some row. */
const eachTile = (rows: TileParams[]): TileParams[] => {
  const seen = new Map<string, TileParams>();
  for (const r of rows) seen.set(`${r.bm}x${r.bn}x${r.wk}x${r.wn}x${r.wgmma}`, r);
  return [...seen.values()];
};
const only = (want: Partial<TileParams>) => (rows: TileParams[]) =>
  rows.filter((r) => Object.entries(want).every(([k, v]) => r[k as keyof TileParams] === v)).slice(0, 1);

describe('convolutions', () => {
  test('3×3 with padding on every tile of warps, rows and columns with tails', () => {
    const conv = convKernel({ size: [9, 7], ic: 24, oc: 40, kernel: [3, 3], pad: 1, epilogue: 'bias-relu' });
    check(withDType(conv, 'f16'), (rows) => eachTile(rows.filter((r) => !r.wgmma)));
  });
  test('stride, dilation, batch, residual, more channels than a step', () => {
    const conv = convKernel({
      batch: 2,
      size: [13, 11],
      ic: 72,
      oc: 64,
      kernel: [3, 3],
      stride: 2,
      pad: 2,
      dilation: 2,
      epilogue: 'bias-residual-relu',
    });
    check(withDType(conv, 'bf16'), only({ bm: 64, bn: 64, split: 1, stages: 3 }));
    check(withDType(conv, 'f16'), only({ bm: 32, bn: 32, split: 4 }));
  });
  test('1×1 is a plain product', () => {
    const conv = convKernel({ size: [7, 7], ic: 64, oc: 128, kernel: [1, 1], epilogue: 'bias-residual-relu' });
    check(withDType(conv, 'f16'), only({ bm: 64, bn: 128 }));
    check(
      withDType(convKernel({ size: [8, 8], ic: 64, oc: 24, kernel: [1, 1], stride: 2 }), 'f16'),
      only({ bm: 16, bn: 32 }),
    );
  });
  test('groups are batches; output channels that are no multiple of 8', () => {
    check(
      withDType(
        convKernel({ size: [5, 5], ic: 32, oc: 32, group: 2, kernel: [3, 3], pad: 1, epilogue: 'bias' }),
        'f16',
      ),
      only({ bm: 32, bn: 32 }),
    );
    check(
      withDType(convKernel({ size: [5, 5], ic: 8, oc: 13, kernel: [3, 3], pad: 1, epilogue: 'bias-clip' }), 'f16'),
      only({ bm: 32, bn: 32 }),
    );
  });
  test('an output whose channels are not contiguous', () => {
    check(
      withDType(
        convKernel({ size: [6, 5], ic: 16, oc: 24, kernel: [3, 3], outLayout: 'nchw', epilogue: 'bias' }),
        'f16',
      ),
      only({ bm: 32, bn: 64 }),
    );
  });
  test('channels that fill steps: windows of all kinds, parts of k that begin within a tap', () => {
    const conv = { size: [7, 6], ic: 64, oc: 24, kernel: [3, 3], pad: 1, epilogue: 'bias' } as const;
    for (const split of [1, 2, 4])
      check(withDType(convKernel(conv), 'f16'), only({ bm: 16, bn: 32, split, stages: 3 }));
    const deep = convKernel({ ...conv, ic: 128, stride: 2, batch: 2 });
    for (const split of [1, 4, 8]) check(withDType(deep, 'bf16'), only({ bm: 32, bn: 32, split, stages: 3 }));
    check(withDType(deep, 'f16'), only({ wgmma: 1, bm: 64, bn: 64, stages: 3, split: 4 }));
    check(withDType(convKernel({ ...conv, kernel: [1, 5], pad: 2 }), 'f16'), only({ bm: 64, bn: 32 }));
    check(withDType(convKernel({ ...conv, kernel: [5, 5], pad: 4, dilation: 2 }), 'f16'), only({ bm: 16, bn: 64 }));
    check(withDType(convKernel({ ...conv, kernel: [6, 5], pad: 2 }), 'f16'), only({ bm: 32, bn: 64 }));
    check(
      withDType(convKernel({ ...conv, size: [9, 8], pad: 0, stride: 2 }), 'f16'),
      only({ bm: 16, bn: 32, split: 2 }),
    );
    check(withDType(convKernel({ ...conv, size: [3, 3], kernel: [2, 2], group: 2, ic: 128 }), 'f16'), only({ bm: 32 }));
    check(convKernel({ ...conv, ic: 32 }), only({ bm: 32, bn: 32, stages: 4 }));
  });
  test('k shared by the blocks of a cluster', () => {
    const conv = convKernel({ size: [4, 4], ic: 136, oc: 40, kernel: [3, 3], pad: 1, epilogue: 'bias-residual-relu' });
    for (const split of [2, 4, 8]) check(withDType(conv, 'f16'), only({ bm: 16, bn: 64, split }));
    check(withDType(conv, 'f16'), only({ bm: 64, bn: 32, split: 2, stages: 4 }));
  });
  test('by warpgroups, with few and many steps, shared by a cluster', () => {
    const conv = convKernel({ size: [10, 9], ic: 64, oc: 72, kernel: [3, 3], pad: 1, epilogue: 'bias-residual-relu' });
    for (const dtype of ['f16', 'bf16'] as const) {
      check(withDType(conv, dtype), only({ wgmma: 1, bn: 128, stages: 4, split: 1 }));
      check(withDType(conv, dtype), only({ wgmma: 1, bm: 64, bn: 64, stages: 3, split: 4 }));
    }
    check(withDType(gemmKernel({ m: 70, n: 136, k: 40, transB: true }), 'f16'), only({ wgmma: 1, bm: 128 }), new Set());
  });
  test('a picture: few channels, as planes or side by side', () => {
    for (const layout of ['nchw', 'nhwc'] as const) {
      const conv = {
        size: [15, 13],
        ic: 3,
        oc: 24,
        kernel: [7, 7],
        stride: 2,
        pad: 3,
        layout,
        outLayout: 'nhwc',
      } as const;
      for (const bm of [32, 128])
        check(withDType(convKernel({ ...conv, epilogue: 'bias-relu' }), 'f16'), only({ bm, bn: 64 }));
    }
    check(
      withDType(convKernel({ size: [6, 6], ic: 12, oc: 8, kernel: [3, 3], batch: 2 }), 'bf16'),
      only({ bm: 64, split: 1 }),
    );
    check(convKernel({ size: [6, 6], ic: 3, oc: 8, kernel: [3, 3], layout: 'nchw' }), only({ bm: 32, bn: 32 }));
  });
  test('gathered k shared by a cluster, without padding, one row of k', () => {
    check(withDType(gemmKernel({ m: 50, n: 40, k: 515 }), 'f16'), only({ bm: 32, bn: 64, split: 4, stages: 3 }));
    check(withDType(gemmKernel({ m: 33, n: 8, k: 1 }), 'f16'), only({ bm: 32, bn: 32 }));
  });
  test('tf32', () => {
    check(
      convKernel({ size: [6, 7], ic: 20, oc: 24, kernel: [3, 3], pad: 1, epilogue: 'bias-relu' }),
      only({ bm: 32, bn: 64 }),
    );
  });
});

describe('products', () => {
  const none = new Set<string>();
  test('both operands activations, b by rows of k or by columns', () => {
    for (const transB of [true, false]) {
      for (const bn of [64, 128]) {
        check(withDType(gemmKernel({ batch: 3, m: 37, n: 72, k: 88, transB }), 'f16'), only({ bm: 64, bn }), none);
        check(
          withDType(gemmKernel({ m: 64, n: 64, k: 256, transB, epilogue: 'bias' }), 'bf16'),
          only({ bm: 64, bn, split: 2 }),
          none,
        );
      }
    }
  });
  test('b as it does not lie well: odd columns, odd k, both operands gathered', () => {
    check(withDType(gemmKernel({ batch: 2, m: 40, n: 61, k: 72 }), 'f16'), only({ bm: 32, bn: 64 }), none);
    check(
      withDType(gemmKernel({ batch: 2, m: 33, n: 40, k: 61, transB: true }), 'f16'),
      only({ bm: 64, bn: 32 }),
      none,
    );
    check(gemmKernel({ m: 33, n: 40, k: 61, transA: true }), only({ bm: 64, bn: 128, split: 1 }), none);
  });
  test('functions of the sums', () => {
    const plain = gemmKernel({ m: 9, n: 24, k: 64 });
    if (plain.form.kind !== 'contract') throw new Error('no contract');
    const epilogue = plain.form.epilogue.map((s) => {
      if (s.kind !== 'store') return s;
      const ops = ['erf', 'tanh', 'exp', 'abs'] as const;
      const x = e.mul(s.value, e.constant('f32', 0.25));
      return {
        ...s,
        value: ops.map((op) => e.unary(op, x)).reduce((a, b) => e.div(a, e.add(b, e.constant('f32', 2)))),
      };
    });
    check(contractKernel('functions', plain.buffers, { ...plain.form, epilogue }), only({ bm: 16, bn: 32 }));
  });
  test('one row: a layer at batch 1', () => {
    check(withDType(gemmKernel({ m: 1, n: 100, k: 512, epilogue: 'bias' }), 'f16'), only({ bm: 16, bn: 32, split: 4 }));
  });
  test('tf32 of activations', () => {
    check(gemmKernel({ m: 19, n: 24, k: 36, transB: true }), only({ bm: 32, bn: 32 }), none);
  });
});

describe('assembled', () => {
  const conv = convKernel({ size: [28, 28], ic: 128, oc: 128, kernel: [3, 3], pad: 1, epilogue: 'bias-residual-relu' });
  const old = { sharedBytesPerBlock: 101376, clusters: false, warpgroups: false };
  const cases = [
    ['f16', 80, old],
    ['bf16', 90, CHIP],
    ['f32', 80, old],
  ] as const;
  test.skipIf(!ptxasIsPresent()).each(cases)('%s on sm_%i by ptxas, no tile spills', (dtype, capability, chip) => {
    const kernel = dtype === 'f32' ? conv : withDType(conv, dtype);
    const shape = gemmShape(kernel, FACTS);
    if (!shape) throw new Error('no shape');
    const tiles = eachTile(tileRows(shape, chip).filter((r) => r.split === 1));
    const alignments = kernel.buffers.map(() => 64);
    const site = (i: number) => ({ name: `k${i}`, kernel, alignments, programmatic: capability >= 90 });
    const text = moduleText(
      capability,
      tiles.map((tile, i) => emitGemm(site(i), shape, tile).code),
    );
    const said = assemble(text, /\.target (\S+)/.exec(text)![1], { verbose: true });
    expect(said.match(/\d+ bytes spill stores/g)).toEqual(tiles.map(() => '0 bytes spill stores'));
  });
});

describe('what tensor cores cannot take', () => {
  const refused = (kernel: Kernel, facts: { constant: Set<string>; tf32?: boolean } = FACTS) =>
    expect(gemmShape(kernel, facts)).toBeUndefined();
  test('k too long to gather', () => {
    refused(withDType(gemmKernel({ m: 8, n: 12, k: 2052 }), 'f16'));
    refused(withDType(gemmKernel({ m: 8, n: 12, k: 2048 }), 'f16'), { constant: new Set() });
  });
  test('f32 that may not be rounded', () => {
    refused(convKernel({ size: [6, 6], ic: 8, oc: 8, kernel: [3, 3] }), { constant: new Set(['w']) });
  });
});
