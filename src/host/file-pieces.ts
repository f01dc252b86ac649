/**
 * Files read piece by piece into memory of their own: each piece is read when it is asked for, and nothing else of the file is held.
 * For weights of many gigabytes beside a model, of which each tensor is a piece.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';

/** What one call to the system may read: the limit of Linux is just under 2 GiB. */
const MOST_BYTES_A_READ = 2 ** 30;

/** The file's size now, and a reader of its pieces. Throws what node:fs throws, also where the file got shorter since. */
export function fileInPieces(file: string): {
  readonly bytes: number;
  read(byteOffset: number, bytes: number): Uint8Array;
} {
  return {
    bytes: statSync(file).size,
    read: (byteOffset, bytes) => {
      const piece = new Uint8Array(bytes);
      const descriptor = openSync(file, 'r');
      try {
        for (let at = 0; at < bytes; ) {
          const count = readSync(descriptor, piece, at, Math.min(bytes - at, MOST_BYTES_A_READ), byteOffset + at);
          if (count === 0) throw new Error(`${file} ends at ${byteOffset + at}, before ${byteOffset + bytes}`);
          at += count;
        }
      } finally {
        closeSync(descriptor);
      }
      return piece;
    },
  };
}
