import { expect, it } from 'vitest';
import { bytesEqual } from './bytes.ts';

it('bytes are equal where all are, at any offset and length', () => {
  const memory = Uint8Array.from({ length: 64 }, (_, i) => i % 7);
  for (const length of [0, 1, 3, 4, 5, 8, 11]) {
    for (const offset of [0, 1, 4, 7]) {
      const a = memory.subarray(7, 7 + length);
      const b = memory.slice(0).subarray(offset, offset + length);
      expect(bytesEqual(a, b), `${length} at ${offset}`).toBe(a.join() === b.join());
      for (let i = 0; i < length; i++) {
        const c = a.slice();
        c[i] ^= 128;
        expect(bytesEqual(a.slice(), c)).toBe(false);
      }
    }
  }
  expect(bytesEqual(memory, memory.subarray(1))).toBe(false);
});
