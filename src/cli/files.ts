/**
 * Files that a command names: read whole, with an error that says which one and why.
 */
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { ModelError } from '../core/errors.ts';
import { readHead, readSharedFile } from '../host/shared-file.ts';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'no permission to read it',
  EISDIR: 'it is a folder',
};

/** The bytes of a file. Throws ModelError `file-missing`; `what` says what it was wanted for ("model", "input x"). */
export const readInputFile = (file: string, what: string): Uint8Array => reading(file, what, () => readWhole(file));

/** The bytes of a file in shared memory where `isWanted` says so of its first ones. Throws ModelError `file-missing`. */
export const readSharedInput = (file: string, what: string, isWanted: (head: Uint8Array) => boolean): Uint8Array =>
  reading(file, what, () => (isWanted(readHead(file, HEAD_BYTES)) ? readSharedFile(file) : readWhole(file)));

const HEAD_BYTES = 64;
/** Node's readFileSync ends at 2 GiB, and so does one read of Linux. */
const MOST_AT_ONCE = 2 ** 30;

function readWhole(file: string): Uint8Array {
  const { size } = statSync(file);
  if (size <= MOST_AT_ONCE) return readFileSync(file);
  const bytes = new Uint8Array(size);
  const descriptor = openSync(file, 'r');
  try {
    for (let at = 0; at < size; ) {
      const read = readSync(descriptor, bytes, at, Math.min(size - at, MOST_AT_ONCE), at);
      // A file that shrinks meanwhile.
      if (read === 0) return bytes.subarray(0, at);
      at += read;
    }
  } finally {
    closeSync(descriptor);
  }
  return bytes;
}

function reading(file: string, what: string, read: () => Uint8Array): Uint8Array {
  try {
    return read();
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? '';
    throw new ModelError('file-missing', `${what} ${file}: ${REASONS[code] ?? (cause as Error).message}`, { cause });
  }
}

/** The same error with the file's name in front; errors that name it already, and defects of Hotrod, as they are. */
export function withFile(file: string, error: unknown): unknown {
  if (!(error instanceof ModelError) || error.message.includes(file)) return error;
  const { hint, details, cause } = error;
  return new ModelError(error.code, `${file}: ${error.message}`, {
    ...(hint !== undefined && { hint }),
    details,
    cause,
  });
}
