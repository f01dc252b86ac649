/**
 * Compressed bytes, with a bound on what they become: to check before a library inflates them without one, or to inflate them here.
 */
import { nodeModule } from './node-module.ts';

interface NodeZlib {
  inflateSync(bytes: Uint8Array, options: { maxOutputLength: number }): Uint8Array;
  inflateRawSync(bytes: Uint8Array, options: { maxOutputLength: number }): Uint8Array;
}

/**
 * Throws where the zlib stream is damaged or inflates to more than `mostBytes`. Memory stays within that bound.
 * Browsers bound their own decoders; where there is no zlib this checks nothing.
 */
export function checkInflatedSize(zlibStream: Uint8Array, mostBytes: number): void {
  nodeModule<NodeZlib>('node:zlib')?.inflateSync(zlibStream, { maxOutputLength: mostBytes });
}

/**
 * Inflates a stream without header (as in ZIP) to exactly `bytes` bytes. Throws where it is damaged or of another size, or where the
 * host has no zlib.
 */
export function inflateRaw(stream: Uint8Array, bytes: number): Uint8Array {
  const zlib = nodeModule<NodeZlib>('node:zlib');
  if (!zlib) throw new Error('compressed entries are read in Node only');
  const inflated = zlib.inflateRawSync(stream, { maxOutputLength: Math.max(1, bytes) });
  if (inflated.length !== bytes) throw new Error(`it has ${inflated.length} bytes, ${bytes} were announced`);
  return inflated;
}
