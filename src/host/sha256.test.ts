import { afterEach, expect, test, vi } from 'vitest';
import { sha256 as portableSha256 } from '../core/hash.ts';
import { sha256, sha256Beside } from './sha256.ts';

vi.mock('./node-module.ts', { spy: true });
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

test.each([0, 1, 787, 100_001])(
  '%i bytes beside the caller, shared and not, agree with the portable form',
  async (length) => {
    const shared = new Uint8Array(new SharedArrayBuffer(length + 13), 13);
    shared.set(shared.map((_, i) => i * 7));
    const wanted = portableSha256(shared);
    expect(await sha256Beside(shared)).toEqual(wanted);
    expect(await sha256Beside(Uint8Array.from(shared))).toEqual(wanted);
    // From here on small ones too, and those that may be taken away, are OpenSSL's.
    expect(await sha256(shared)).toEqual(wanted);
    expect(await sha256(Uint8Array.from(shared))).toEqual(wanted);
    // Several at once.
    expect(await Promise.all([shared, shared, shared].map(sha256Beside))).toEqual([wanted, wanted, wanted]);
  },
);

test('Node, Web Crypto and the portable form agree, on views too', async () => {
  // Nobody has hashed beside yet.
  vi.resetModules();
  const host = await import('./node-module.ts');
  const { sha256 } = await import('./sha256.ts');
  const view = Uint8Array.from({ length: 1000 }, (_, i) => i * 7).subarray(13, 800);
  const wanted = portableSha256(view);
  expect(await sha256(view)).toEqual(wanted);
  expect(host.nodeModule).toHaveBeenCalledWith('node:crypto');
  vi.mocked(host.nodeModule).mockReturnValue(undefined);
  expect(await sha256(view)).toEqual(wanted);
  const shared = new Uint8Array(new SharedArrayBuffer(view.length));
  shared.set(view);
  expect(await sha256(shared)).toEqual(wanted);
  vi.stubGlobal('crypto', undefined);
  expect(await sha256(view)).toEqual(wanted);
});
