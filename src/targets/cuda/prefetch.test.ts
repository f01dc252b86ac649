/** Requests for the next step's weights: which are made, that every byte is asked for once, and that the entry is otherwise the same. */
import { expect, test } from 'vitest';
import { PtxProgram } from '../../../tests/ptx/machine.ts';
import { GlobalMemory } from '../../../tests/ptx/memory.ts';
import { assemble, ptxasIsPresent } from '../../../tests/ptx/ptxas.ts';
import type { BufferRef, Step } from '../../engine/engine.ts';
import { prefetchArgs, prefetchedWeights, withPrefetch } from './prefetch.ts';
import { moduleText, type PtxEntry } from './ptx.ts';

const weights = (bytes: number, byteOffset = 0): BufferRef => ({ space: 'weights', byteOffset, bytes });
const stepOf = (...buffers: BufferRef[]): Step => ({
  kernel: 0,
  tactic: { template: 't', params: {}, predictedNs: 0 },
  buffers,
  values: [],
  loc: [],
  tiles: 1,
  maxThreads: 1,
  barrier: false,
  flops: 0,
  bytesMoved: 0,
});
const KIB = 1024;

test('the largest constant is asked for, if it is neither small nor as large as the cache', () => {
  const arena: BufferRef = { space: 'arena', byteOffset: 0, bytes: 10 ** 6 };
  expect(prefetchedWeights([])).toBeUndefined();
  expect(prefetchedWeights([stepOf(arena, weights(100))])).toBeUndefined();
  expect(prefetchedWeights([stepOf(weights(2 ** 28))])).toBeUndefined();
  expect(prefetchedWeights([stepOf(weights(100 * KIB, 8))])).toBeUndefined();
  const large = weights(200 * KIB, 64);
  expect(prefetchedWeights([stepOf(weights(100 * KIB), arena, large)])).toEqual(large);
  expect(prefetchedWeights([stepOf(weights(100 * KIB)), stepOf(large)])).toEqual(large);
});

/** y[block] = the number of the block, by thread 5. */
const ENTRY: PtxEntry = {
  name: 'kernel_of_test',
  exact: false,
  dynamicShared: false,
  text: () => `.visible .entry kernel_of_test(
  .param .u64 kernel_of_test_0
)
.maxntid 32, 1, 1
{
  .reg .pred %p1;
  .reg .b32 %r<3>;
  .reg .b64 %d<3>;
  ld.param.u64 %d0, [kernel_of_test_0];
  mov.u32 %r0, %tid.x;
  setp.ne.u32 %p1, %r0, 5;
  @%p1 ret;
  mov.u32 %r1, %ctaid.x;
  mul.wide.u32 %d1, %r1, 4;
  add.s64 %d2, %d0, %d1;
  st.global.u32 [%d2], %r1;
  ret;
}`,
};
const asking = withPrefetch(ENTRY);
const MODULE = moduleText(90, [ENTRY, asking]);

test.each([1, 3, 7, 500])('%i blocks do what they did, and ask for nothing outside', (blocks) => {
  const memory = new GlobalMemory();
  const bytes = 100 * KIB + 48;
  const y = memory.alloc('y', 4 * blocks);
  const next = memory.alloc('weights', bytes, true);
  const [, chunk, total] = prefetchArgs(weights(bytes), blocks).map((a) => (a.kind === 'u32' ? a.value : -1));
  new PtxProgram(MODULE).run(memory, {
    entry: asking.name,
    grid: [blocks, 1, 1],
    block: [32, 1, 1],
    sharedBytes: 0,
    args: [y, next, chunk, total],
  });
  const out = memory.bytesAt(y, 4 * blocks);
  expect([...new Uint32Array(out.buffer, out.byteOffset, blocks)]).toEqual(Array.from({ length: blocks }, (_, i) => i));
});

test.skipIf(!ptxasIsPresent())('ptxas takes both', () => {
  expect(assemble(MODULE, 'sm_90')).toBe('');
});

test('each block asks for its slice, the last for what is left', () => {
  const bytes = 100 * KIB + 48;
  for (const blocks of [1, 3, 7, 6400, 10000]) {
    const [, chunk, total] = prefetchArgs(weights(bytes + 8), blocks).map((a) => (a.kind === 'u32' ? a.value : -1));
    expect(total).toBe(bytes);
    expect(chunk % 16).toBe(0);
    const asked = Array.from({ length: blocks }, (_, b) => Math.max(0, Math.min(chunk, total - b * chunk)));
    expect(asked.reduce((a, b) => a + b)).toBe(bytes);
  }
});
