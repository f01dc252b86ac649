/**
 * SHA-256 by the fastest means the host has: Node's crypto, Web Crypto (only on pages served securely), or core/hash.ts.
 */
import { sha256 as portableSha256 } from '../core/hash.ts';
import { loadFfi } from './ffi.ts';
import { staysInPlace } from './mapped-file.ts';
import { nodeModule } from './node-module.ts';

interface NodeHash {
  update(bytes: Uint8Array): NodeHash;
  digest(): Uint8Array;
}
interface NodeCrypto {
  createHash(algorithm: 'sha256'): NodeHash;
}

/** Node hashes less than 2 GiB at once. */
const MOST_AT_ONCE = 2 ** 30;

const DIGEST_BYTES = 32;

/** What is hashed in the time that another thread takes to start. */
const SOON_DONE_BYTES = 2 ** 16;

/** The 32 bytes of the digest. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  if (native) return native.now(bytes);
  if (nodeModule('node:crypto')) return sha256Now(bytes);
  const subtle = globalThis.crypto?.subtle;
  // Web Crypto refuses views of shared memory.
  if (!subtle || !(bytes.buffer instanceof ArrayBuffer)) return portableSha256(bytes);
  return new Uint8Array(await subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
}

/** The same at once: by Node's crypto, or core/hash.ts where there is none. */
export function sha256Now(bytes: Uint8Array): Uint8Array {
  const hash = nodeModule<NodeCrypto>('node:crypto')?.createHash('sha256');
  if (!hash) return portableSha256(bytes);
  for (let at = 0; at < bytes.length; at += MOST_AT_ONCE) hash.update(bytes.subarray(at, at + MOST_AT_ONCE));
  return new Uint8Array(hash.digest());
}

interface NativeHash {
  now(bytes: Uint8Array): Uint8Array;
  /** On another thread. */
  beside(bytes: Uint8Array): Promise<Uint8Array>;
}

/** Found when somebody hashes beside. Then it serves all: Node takes some milliseconds to load its own module for crypto. */
let native: NativeHash | undefined;
let finding: Promise<void> | undefined;

/**
 * The same, on another thread where the host can: then it goes on while the caller works. Only memory that stays in its place is read
 * there, because other memory may be taken away meanwhile.
 */
export async function sha256Beside(bytes: Uint8Array): Promise<Uint8Array> {
  finding ??= findNative();
  await finding;
  return native && bytes.length > SOON_DONE_BYTES && staysInPlace(bytes) ? native.beside(bytes) : sha256(bytes);
}

/** Node brings OpenSSL along and shows its functions to add-ons; other hosts may not. */
async function findNative(): Promise<void> {
  const ffi = hasOpenSsl() ? await loadFfi() : 'no OpenSSL';
  if (typeof ffi === 'string') return;
  const args = ['void *', 'intptr', 'void *'] as const;
  const digest = (): Uint8Array => new Uint8Array(new ArrayBuffer(DIGEST_BYTES));
  try {
    const now = ffi.symbol(null, 'SHA256', 'intptr', args);
    const beside = ffi.asyncSymbol(null, 'SHA256', 'intptr', args);
    native = {
      now: (bytes) => {
        const into = digest();
        now(bytes, bytes.byteLength, into);
        return into;
      },
      beside: async (bytes) => {
        const into = digest();
        await beside(bytes, bytes.byteLength, into);
        return into;
      },
    };
  } catch {
    // Node's own module does as well.
  }
}

const hasOpenSsl = (): boolean =>
  nodeModule<{ readonly versions: Readonly<Record<string, string | undefined>> }>('node:process')?.versions.openssl !==
  undefined;
