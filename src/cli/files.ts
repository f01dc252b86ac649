/**
 * Files that a command names: read whole, with an error that says which one and why.
 */
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { ModelError } from '../core/errors.ts';
import { mapOrReadFile } from '../host/mapped-file.ts';
import { readHead } from '../host/shared-file.ts';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'no permission to read it',
  EISDIR: 'it is a folder',
};

/** The bytes of a file. Throws ModelError `file-missing`; `what` says what it was wanted for ("model", "input x"). */
export function readInputFile(file: string, what: string): Uint8Array {
  try {
    return readWhole(file);
  } catch (cause) {
    throw unreadable(file, what, cause);
  }
}

/** The bytes of a file, mapped where `isMapped` says so of its first ones. Throws ModelError `file-missing`. */
export async function openInputFile(
  file: string,
  what: string,
  isMapped: (head: Uint8Array) => boolean,
): Promise<Uint8Array> {
  try {
    return isMapped(readHead(file, HEAD_BYTES)) ? await mapOrReadFile(file) : readWhole(file);
  } catch (cause) {
    throw unreadable(file, what, cause);
  }
}

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

function unreadable(file: string, what: string, cause: unknown): ModelError {
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  return new ModelError('file-missing', `${what} ${file}: ${REASONS[code] ?? (cause as Error).message}`, { cause });
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
