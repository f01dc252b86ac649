import { afterEach, expect, test, vi } from 'vitest';
import { sha256 as portableSha256 } from '../core/hash.ts';
import * as host from './node-module.ts';
import { sha256 } from './sha256.ts';

vi.mock('./node-module.ts', { spy: true });
afterEach(() => vi.unstubAllGlobals());

test('Node, Web Crypto and the portable form agree, on views too', async () => {
  const view = Uint8Array.from({ length: 1000 }, (_, i) => i * 7).subarray(13, 800);
  const wanted = portableSha256(view);
  expect(await sha256(view)).toEqual(wanted);
  vi.mocked(host.nodeModule).mockReturnValue(undefined);
  expect(await sha256(view)).toEqual(wanted);
  const shared = new Uint8Array(new SharedArrayBuffer(view.length));
  shared.set(view);
  expect(await sha256(shared)).toEqual(wanted);
  vi.stubGlobal('crypto', undefined);
  expect(await sha256(view)).toEqual(wanted);
});
