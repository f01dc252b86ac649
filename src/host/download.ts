/**
 * A file from the network to the disk: with progress, going on where an earlier attempt ended, and checked by its SHA-256.
 *
 * Bytes go to FILE.part, which becomes FILE once the digest is right. An interrupted download leaves the part: the next attempt asks
 * for the rest (Range), and starts again where the server does not give ranges, or where what was joined is not what was wanted.
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, mkdirSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { dirname } from 'node:path';
import { ModelError } from '../core/errors.ts';
import { type Environment, get } from './http.ts';

export interface DownloadOptions {
  readonly url: string;
  readonly file: string;
  /** The first hexadecimal digits of the SHA-256 that the file must have. */
  readonly sha256: string;
  readonly environment?: Environment;
  readonly patienceMs?: number;
  /** Bytes so far, and in all where the server says. */
  readonly onProgress?: (bytes: number, total: number | undefined) => void;
}

const OK = 200;
const PARTIAL = 206;
const NOT_SATISFIABLE = 416;

/** Throws ModelError `download-failed`, `file-write`. */
export async function download(options: DownloadOptions): Promise<void> {
  const { url, file, sha256 } = options;
  const part = `${file}.part`;
  makeFolderFor(file);
  const resumed = await fetchInto(options, part, bytesOf(part));
  let digest = await digestOf(part);
  if (!digest.startsWith(sha256) && resumed) {
    // The part was of something else.
    rmSync(part, { force: true });
    await fetchInto(options, part, 0);
    digest = await digestOf(part);
  }
  if (!digest.startsWith(sha256)) {
    rmSync(part, { force: true });
    throw new ModelError('download-failed', `${url} gave a file with SHA-256 ${digest}, expected ${sha256}…`, {
      hint: 'Something on the way answers in its place, or the file was replaced. Nothing was kept.',
    });
  }
  renameSync(part, file);
}

/** Whether a file has the digest. */
export async function hasDigest(file: string, sha256: string): Promise<boolean> {
  return bytesOf(file) > 0 && (await digestOf(file)).startsWith(sha256);
}

/** Adds what is missing behind the first `have` bytes of `part`; true where some of those were kept. */
async function fetchInto(options: DownloadOptions, part: string, have: number): Promise<boolean> {
  const { url } = options;
  const response = await attempt(options, () =>
    get(url, { ...options, headers: have > 0 ? { range: `bytes=${have}-` } : {} }),
  );
  const { statusCode = 0, headers } = response;
  if (statusCode === NOT_SATISFIABLE && have > 0) {
    // The part is whole already, or of another file: its digest tells.
    response.destroy();
    return true;
  }
  const isRest = statusCode === PARTIAL && (headers['content-range'] ?? '').startsWith(`bytes ${have}-`);
  if (statusCode !== OK && !isRest) {
    response.destroy();
    throw failed(options, `the server answered ${statusCode}`);
  }
  const start = isRest ? have : 0;
  await attempt(options, () => write(response, part, start, options));
  return isRest;
}

async function write(
  response: IncomingMessage,
  part: string,
  start: number,
  { onProgress }: DownloadOptions,
): Promise<void> {
  const length = Number(response.headers['content-length'] ?? Number.NaN);
  const total = Number.isFinite(length) ? start + length : undefined;
  let bytes = start;
  onProgress?.(bytes, total);
  // Chunk by chunk: what has come stays where the connection breaks.
  const descriptor = openSync(part, start === 0 ? 'w' : 'a');
  try {
    for await (const chunk of response) {
      for (let at = 0; at < chunk.length; ) at += writeSync(descriptor, chunk, at);
      bytes += chunk.length;
      onProgress?.(bytes, total);
    }
  } finally {
    closeSync(descriptor);
  }
  if (total !== undefined && bytes !== total) throw new Error(`it ended after ${bytes} bytes of ${total}`);
}

async function attempt<T>(options: DownloadOptions, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof ModelError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    throw failed(options, message === '' ? (code ?? 'there is no connection') : message, cause);
  }
}

const failed = ({ url, file }: DownloadOptions, why: string, cause?: unknown): ModelError =>
  new ModelError('download-failed', `${url} could not be downloaded: ${why}`, {
    hint: `Fetch it on a machine that can, and put it at ${file}; behind a proxy, set HTTPS_PROXY.`,
    cause,
  });

const bytesOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

function makeFolderFor(file: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true });
  } catch (cause) {
    throw new ModelError('file-write', `${file} could not be written: ${(cause as Error).message}`, { cause });
  }
}
