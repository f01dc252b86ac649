/**
 * A bound on what compressed bytes become, asked before a library inflates them without one.
 */
import { nodeModule } from './node-module.ts';

interface NodeZlib {
  inflateSync(bytes: Uint8Array, options: { maxOutputLength: number }): Uint8Array;
}

/**
 * Throws where the zlib stream is damaged or inflates to more than `mostBytes`. Memory stays within that bound.
 * Browsers bound their own decoders; where there is no zlib this checks nothing.
 */
export function checkInflatedSize(zlibStream: Uint8Array, mostBytes: number): void {
  nodeModule<NodeZlib>('node:zlib')?.inflateSync(zlibStream, { maxOutputLength: mostBytes });
}
