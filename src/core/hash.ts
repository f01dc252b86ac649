/**
 * SHA-256 as FIPS 180-4 defines it (section 6.2), for platforms that give none synchronously.
 *
 * The message is padded to blocks of 64 bytes; each block is expanded to a schedule of 64 words that turns the eight state words.
 * All arithmetic is modulo 2^32, which `| 0` is; the state lives in locals so that engines keep it in registers.
 */

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes (section 4.2.2). */
const roundConstants = (): Int32Array => Int32Array.from(primes(64), (p) => fractionBits(p, 3));
/** The same of the square roots of the first 8 primes (section 5.3.3). */
const initialState = (): Int32Array => Int32Array.from(primes(8), (p) => fractionBits(p, 2));

/** Computed when they are first needed: most platforms hash by themselves. */
let constants: { readonly k: Int32Array; readonly initial: Int32Array } | undefined;

const BLOCK_BYTES = 64;

/** The 32 bytes of the digest. */
export function sha256(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  constants ??= { k: roundConstants(), initial: initialState() };
  const { k } = constants;
  const state = constants.initial.slice();
  const whole = bytes.length - (bytes.length % BLOCK_BYTES);
  compress(state, k, bytes, whole);
  const tail = paddedTail(bytes, whole);
  compress(state, k, tail, tail.length);
  const digest = new Uint8Array(32);
  const view = new DataView(digest.buffer);
  for (const [i, word] of state.entries()) view.setInt32(4 * i, word);
  return digest;
}

/** The bytes from `from` on, a 1 bit, zeros, and the message's length in bits as a big-endian 64-bit word (section 5.1.1). */
function paddedTail(bytes: Uint8Array, from: number): Uint8Array {
  const rest = bytes.length - from;
  const out = new Uint8Array(rest + 9 > BLOCK_BYTES ? 2 * BLOCK_BYTES : BLOCK_BYTES);
  out.set(bytes.subarray(from));
  out[rest] = 0x80;
  const view = new DataView(out.buffer);
  view.setUint32(out.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(out.length - 4, (bytes.length * 8) % 2 ** 32);
  return out;
}

/** The blocks of bytes[0, end). */
function compress(state: Int32Array, k: Int32Array, bytes: Uint8Array, end: number): void {
  for (let at = 0; at < end; at += BLOCK_BYTES) compressBlock(state, k, bytes, at);
}

/** The schedule; filled and read within one block. */
const w = new Int32Array(64);

/** Section 6.2.2. One block a call: engines compile a function that is called often better than one long loop. */
function compressBlock(state: Int32Array, k: Int32Array, bytes: Uint8Array, at: number): void {
  for (let t = 0, p = at; t < 16; t++, p += 4) {
    w[t] = (bytes[p] << 24) | (bytes[p + 1] << 16) | (bytes[p + 2] << 8) | bytes[p + 3];
  }
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15];
    const y = w[t - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[t] = (w[t - 16] + s0 + w[t - 7] + s1) | 0;
  }
  let a = state[0];
  let b = state[1];
  let c = state[2];
  let d = state[3];
  let e = state[4];
  let f = state[5];
  let g = state[6];
  let h = state[7];
  for (let t = 0; t < 64; t++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + (g ^ (e & (f ^ g))) + k[t] + w[t]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) | (c & (a | b)))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}

function primes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n++) if (found.every((p) => n % p !== 0)) found.push(n);
  return found;
}

/** floor(2^32 · root(n)) modulo 2^32, exact: the integer root of n · 2^(32·degree). */
function fractionBits(n: number, degree: 2 | 3): number {
  const target = BigInt(n) << BigInt(32 * degree);
  let root = 0n;
  for (let bit = 1n << 40n; bit > 0n; bit >>= 1n) if ((root + bit) ** BigInt(degree) <= target) root += bit;
  return Number(BigInt.asIntN(32, root));
}
