/**
 * SHA-256 by the fastest means the host has: Node's crypto, Web Crypto (only on pages served securely), or core/hash.ts.
 */
import { sha256 as portableSha256 } from '../core/hash.ts';
import { nodeModule } from './node-module.ts';

interface NodeCrypto {
  createHash(algorithm: 'sha256'): { update(bytes: Uint8Array): { digest(): Uint8Array } };
}

/** The 32 bytes of the digest. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  const crypto = nodeModule<NodeCrypto>('node:crypto');
  if (crypto) return new Uint8Array(crypto.createHash('sha256').update(bytes).digest());
  const subtle = globalThis.crypto?.subtle;
  // Web Crypto refuses views of shared memory.
  if (!subtle || !(bytes.buffer instanceof ArrayBuffer)) return portableSha256(bytes);
  return new Uint8Array(await subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
}
