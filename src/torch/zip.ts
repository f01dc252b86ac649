/**
 * The directory of a ZIP archive, and its entries as views on the archive's bytes.
 *
 * PyTorch writes entries stored, each at a multiple of 64 bytes, so weights are used where they lie. Entries that are deflated are
 * inflated when asked for, to no more than the size that the directory states. Only what the directory lists is seen; sizes and
 * offsets are checked before use. ZIP64 is read. Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */
import { dataView, readU64 } from '../core/bytes.ts';
import { ModelError } from '../core/errors.ts';
import { inflateRaw } from '../host/inflate.ts';

export interface ZipArchive {
  /** Names in the order of the directory. */
  readonly names: readonly string[];
  /** The entry's bytes; undefined where there is none of that name. Throws ModelError `torch-parse`. */
  read(name: string): Uint8Array | undefined;
}

interface Entry {
  readonly method: number;
  readonly packedBytes: number;
  readonly bytes: number;
  readonly headerAt: number;
}

const END = 0x06054b50;
const END64 = 0x06064b50;
const END64_LOCATOR = 0x07064b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_HEADER = 0x04034b50;
const END_BYTES = 22;
const LONGEST_COMMENT = 0xffff;
/** A field of 32 bits that stands in the ZIP64 extra field. */
const ELSEWHERE = 0xffffffff;
const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED = 1;
/** What the deflated entries of an archive may become in all; a larger archive may become 8 times its size. */
const MOST_INFLATED_BYTES = 2 ** 30;

const damaged = (what: string): ModelError =>
  new ModelError('torch-parse', `the ZIP archive is damaged: ${what}`, {
    hint: 'copy or download the file again',
  });

/** Throws ModelError `torch-parse`. */
export function openZip(archive: Uint8Array): ZipArchive {
  const entries = readDirectory(archive);
  let inflatedBytes = 0;
  return {
    names: [...entries.keys()],
    read(name) {
      const entry = entries.get(name);
      if (entry?.method === DEFLATED) {
        inflatedBytes += entry.bytes;
        if (inflatedBytes > Math.max(MOST_INFLATED_BYTES, 8 * archive.length)) throw damaged('it inflates to too much');
      }
      return entry && readEntry(archive, name, entry);
    },
  };
}

function readDirectory(archive: Uint8Array): Map<string, Entry> {
  const view = dataView(archive);
  const { count, at: start } = findDirectory(archive, view);
  const entries = new Map<string, Entry>();
  const decoder = new TextDecoder();
  let at = start;
  for (let i = 0; i < count; i++) {
    if (at + 46 > archive.length || view.getUint32(at, true) !== DIRECTORY_ENTRY) {
      throw damaged(`entry ${i} of its directory of ${count} is missing`);
    }
    const nameBytes = view.getUint16(at + 28, true);
    const extraBytes = view.getUint16(at + 30, true);
    const end = at + 46 + nameBytes + extraBytes + view.getUint16(at + 32, true);
    if (end > archive.length) throw damaged(`entry ${i} of its directory is cut short`);
    const name = decoder.decode(archive.subarray(at + 46, at + 46 + nameBytes));
    if (view.getUint16(at + 8, true) & ENCRYPTED) throw damaged(`entry "${name}" is encrypted`);
    if (entries.has(name)) throw damaged(`entry "${name}" is there twice`);
    const extra = archive.subarray(at + 46 + nameBytes, at + 46 + nameBytes + extraBytes);
    entries.set(name, { method: view.getUint16(at + 10, true), ...sizesOf(view, at, extra, name) });
    at = end;
  }
  return entries;
}

function findDirectory(archive: Uint8Array, view: DataView): { readonly count: number; readonly at: number } {
  const first = Math.max(0, archive.length - END_BYTES - LONGEST_COMMENT);
  for (let at = archive.length - END_BYTES; at >= first; at--) {
    if (view.getUint32(at, true) !== END) continue;
    const count = view.getUint16(at + 10, true);
    const directoryAt = view.getUint32(at + 16, true);
    if (count !== 0xffff && directoryAt !== ELSEWHERE) return { count, at: directoryAt };
    return findDirectory64(archive, view, at - 20);
  }
  throw damaged('it has no directory; its end is missing');
}

function findDirectory64(archive: Uint8Array, view: DataView, locatorAt: number) {
  const isThere = locatorAt >= 0 && view.getUint32(locatorAt, true) === END64_LOCATOR;
  const at = isThere ? readU64(view, locatorAt + 8) : undefined;
  if (at === undefined || at + 56 > archive.length || view.getUint32(at, true) !== END64) {
    throw damaged('the place of its directory is not stated');
  }
  const count = readU64(view, at + 32);
  const directoryAt = readU64(view, at + 48);
  if (count === undefined || directoryAt === undefined) throw damaged('the size of its directory is out of range');
  return { count, at: directoryAt };
}

/** The sizes and the place of an entry: in the directory, or in the extra field 1 where 32 bits do not hold them. */
function sizesOf(view: DataView, at: number, extra: Uint8Array, name: string): Omit<Entry, 'method'> {
  const wide = wideFields(extra);
  let next = 0;
  const field = (offset: number): number => {
    const value = view.getUint32(at + offset, true);
    if (value !== ELSEWHERE) return value;
    const value64 = wide && wide.byteLength >= next + 8 ? readU64(wide, next) : undefined;
    if (value64 === undefined) throw damaged(`the size of entry "${name}" is not stated`);
    next += 8;
    return value64;
  };
  const bytes = field(24);
  const packedBytes = field(20);
  return { bytes, packedBytes, headerAt: field(42) };
}

function wideFields(extra: Uint8Array): DataView | undefined {
  const view = dataView(extra);
  for (let at = 0; at + 4 <= extra.length; ) {
    const length = view.getUint16(at + 2, true);
    if (view.getUint16(at, true) === 1) return dataView(extra.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return undefined;
}

function readEntry(archive: Uint8Array, name: string, { method, packedBytes, bytes, headerAt }: Entry): Uint8Array {
  const view = dataView(archive);
  if (headerAt + 30 > archive.length || view.getUint32(headerAt, true) !== LOCAL_HEADER) {
    throw damaged(`entry "${name}" is not where its directory says`);
  }
  const at = headerAt + 30 + view.getUint16(headerAt + 26, true) + view.getUint16(headerAt + 28, true);
  if (at + packedBytes > archive.length) {
    throw damaged(`entry "${name}" lies at ${at} to ${at + packedBytes}, the file has ${archive.length} bytes`);
  }
  const packed = archive.subarray(at, at + packedBytes);
  if (method === STORED) {
    if (bytes !== packedBytes) throw damaged(`entry "${name}" is stored, but its sizes differ`);
    return packed;
  }
  if (method !== DEFLATED) throw damaged(`entry "${name}" is packed by method ${method}`);
  try {
    return inflateRaw(packed, bytes);
  } catch (cause) {
    throw new ModelError('torch-parse', `entry "${name}" of the ZIP archive cannot be inflated`, {
      hint: cause instanceof Error ? cause.message : '',
      cause,
    });
  }
}
