/** Sharing out tiles: each is done exactly once an inference, however many threads there are and whoever is slow. */

import { describe, expect, test } from 'vitest';
import { handmadeEngine, KERNELS } from '../../../tests/handmade-engine.ts';
import { openX64Program } from '../../../tests/x64-program.ts';
import type { Engine, Step } from '../../engine/engine.ts';
import type { Asm } from '../cpu/asm.ts';
import { type X64Machine, x64Machine } from './machine.ts';
import { chunkOf, counterBytes, sharersOf } from './share.ts';

const found = await x64Machine();
const reason = typeof found === 'string' ? ` (skipped: ${found})` : '';

/** A kernel that counts the visits of each tile; tiles of the lower half take a while. */
function count(asm: Asm): void {
  const [begin, end, out] = asm.params;
  asm.loop(begin, end, 1, (i) => {
    const at = asm.address(out, i, 4);
    asm.if(asm.op('lt', [i, asm.const('i32', 9)]), () => {
      const x = asm.reg('i32');
      asm.move(x, i);
      asm.repeat(2000, () => asm.op('mul', [x, asm.const('i32', 3)], x));
      asm.store('i32', out, -4, x);
    });
    asm.store('i32', at, 0, asm.op('add', [asm.load('i32', at, 0), asm.const('i32', 1)]));
  });
}

/** Two steps over the same cells, a barrier between: counts of 2 an inference. */
function countingEngine(tiles: number, maxThreads: number, predictedNs: number): Engine {
  const { engine } = handmadeEngine({ n: 5, rounds: 1 });
  const buffer = { space: 'arena', byteOffset: 64, bytes: 4 * tiles } as const;
  const step: Step = {
    ...engine.steps[0],
    kernel: 0,
    tactic: { template: 'generated', params: {}, predictedNs },
    buffers: [buffer],
    values: ['y'],
    tiles,
    maxThreads,
    barrier: true,
  };
  return {
    ...engine,
    target: 'x64',
    code: [],
    kernels: [{ ...KERNELS[0], buffers: KERNELS[0].buffers.slice(1) }],
    steps: [step, step],
    inputs: [],
    outputs: [{ name: 'y', dtype: 'i32', shape: [tiles + 4], buffer: { ...buffer, bytes: 4 * tiles + 16 } }],
    arenaBytes: 64 + 4 * tiles + 16,
  };
}

describe.skipIf(typeof found === 'string')(`each tile once${reason}`, () => {
  test.each([1, 2, 3, 7, 61, 1000])('%i tiles', (tiles) => {
    for (const predictedNs of [0, 1e3, 1e9]) {
      for (const threads of [1, 2, 3, 13]) {
        for (const maxThreads of [1, 2, 5, 5000].map((n) => Math.min(n, tiles))) {
          const engine = countingEngine(tiles, maxThreads, predictedNs);
          const open = openX64Program(engine, engine, { threads }, found as X64Machine, count);
          const context = open.createContext();
          for (let run = 1; run <= 5; run++) {
            context.execute();
            const y = context.outputs[0] as Int32Array;
            expect(y.subarray(0, tiles).every((x) => x === 2 * run)).toBe(true);
            expect([...y.subarray(tiles)]).toEqual([0, 0, 0, 0]);
          }
          open.dispose();
        }
      }
    }
  });
});

test('chunks: several a range, long enough to be worth a claim, and none where one is all', () => {
  const chunk = (tiles: number, predictedNs: number, sharers: number, grain = 1) =>
    chunkOf({ tiles, tactic: { template: 't', params: {}, predictedNs } }, sharers, grain);
  expect(chunk(64, 1e9, 2)).toBe(4);
  expect(chunk(16, 1e9, 2)).toBe(1);
  expect(chunk(16, 16e3, 2)).toBe(4);
  expect(chunk(16, 4e3, 2)).toBeUndefined();
  expect(chunk(2, 1e9, 2)).toBeUndefined();
  expect(chunk(100, 1e9, 1)).toBeUndefined();
  expect(chunk(64, 1e9, 2, 3)).toBe(6);
  expect(chunk(64, 1e9, 2, 32)).toBeUndefined();
  expect(sharersOf({ maxThreads: 3 }, 8)).toBe(3);
  expect(sharersOf({ maxThreads: 8 }, 3)).toBe(3);
  expect(counterBytes(17, 3)).toBe(3 * 128);
});
