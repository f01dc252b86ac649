/**
 * Output files of whoever runs in Node: written whole or not at all. Not part of the runtime entry, so browsers never load it.
 *
 * The bytes go to a new file beside the wanted one, which then takes its name: readers see the old file or the new one, and a full
 * disk leaves the old one as it was.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ModelError } from '../core/errors.ts';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'its folder does not exist',
  ENOTDIR: 'its folder does not exist',
  EACCES: 'no permission to write there',
  EPERM: 'no permission to write there',
  EROFS: 'the file system is read-only',
  ENOSPC: 'there is no space left on the disk',
  EDQUOT: 'there is no space left on the disk',
  EFBIG: 'the system allows no file of this size',
  EISDIR: 'it is a folder',
  ENOTEMPTY: 'it is a folder',
};

/** Writes the file, replacing an older one. Throws ModelError `file-write`; then nothing has changed. */
export function writeFileAtomically(file: string, bytes: Uint8Array): void {
  try {
    // A pipe or a device has no place for a new file beside it, and must not be replaced.
    if (isSpecial(file)) writeAll(file, 'w', bytes);
    else replaceFile(file, bytes);
  } catch (cause) {
    throw writeError(file, cause);
  }
}

/** Makes the folder and those above it. Throws ModelError `file-write`. */
export function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw writeError(folder, cause);
  }
}

/** A file written piece by piece under another name, which takes its own when it is whole. Methods throw ModelError `file-write`. */
export class OutputFile {
  bytes = 0;
  readonly #file: string;
  readonly #temporary: string;
  #descriptor: number | undefined;

  constructor(file: string) {
    this.#file = file;
    this.#temporary = temporaryName(file);
    this.#attempt(() => {
      this.#descriptor = openSync(this.#temporary, 'wx');
    });
  }
  append(bytes: Uint8Array): void {
    this.#attempt((descriptor) => writeBytes(descriptor, bytes));
    this.bytes += bytes.length;
  }
  finish(): void {
    this.#attempt((descriptor) => {
      fsyncSync(descriptor);
      this.#close();
      renameSync(this.#temporary, this.#file);
    });
  }
  /** Leaves nothing behind, unless it is finished already. */
  discard(): void {
    this.#close();
    rmSync(this.#temporary, { force: true });
  }
  #close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
  #attempt(work: (descriptor: number) => void): void {
    try {
      work(this.#descriptor ?? -1);
    } catch (cause) {
      throw writeError(this.#file, cause);
    }
  }
}

const temporaryName = (file: string): string => join(dirname(file), `.${basename(file)}.${process.pid}.tmp`);

function isSpecial(file: string): boolean {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat !== undefined && !stat.isFile() && !stat.isDirectory();
}

function replaceFile(file: string, bytes: Uint8Array): void {
  const temporary = temporaryName(file);
  try {
    writeAll(temporary, 'wx', bytes);
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** What one call to the system may write: the limit of Linux is just under 2 GiB. */
const MOST_BYTES_A_WRITE = 2 ** 30;

function writeAll(file: string, flags: string, bytes: Uint8Array): void {
  const descriptor = openSync(file, flags);
  try {
    writeBytes(descriptor, bytes);
    // Before the rename: a crash must not leave the new name on bytes that never reached the disk.
    if (flags === 'wx') fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function writeBytes(descriptor: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; )
    at += writeSync(descriptor, bytes, at, Math.min(bytes.length - at, MOST_BYTES_A_WRITE));
}

function writeError(file: string, cause: unknown): ModelError {
  const { code = '', message } = cause as NodeJS.ErrnoException;
  return new ModelError('file-write', `${file} could not be written: ${REASONS[code] ?? message}`, {
    hint: 'Nothing was changed. Name another place, or make room.',
    cause,
  });
}
