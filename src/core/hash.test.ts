import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sha256 } from './hash.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const ofText = (text: string): string => hex(sha256(new TextEncoder().encode(text)));

test('the examples of FIPS 180', () => {
  expect(ofText('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  expect(ofText('abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq')).toBe(
    '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
  );
  expect(ofText('')).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
});

test('agrees with node:crypto at every length up to three blocks', () => {
  const bytes = Uint8Array.from({ length: 200 }, (_, i) => (i * 37) & 255);
  for (let n = 0; n <= bytes.length; n++) {
    const message = bytes.subarray(0, n);
    expect(hex(sha256(message))).toBe(createHash('sha256').update(message).digest('hex'));
  }
});

test('agrees with node:crypto on random bytes, views included', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), fc.nat(70), (bytes, start) => {
      const view = bytes.subarray(start);
      expect(hex(sha256(view))).toBe(createHash('sha256').update(view).digest('hex'));
    }),
  );
});
