/**
 * The outer form of an engine file: named sections of bytes, each with its length and SHA-256. What is in them is format.ts's.
 *
 *     0    magic 89 'HOTROD' 0a         8 bytes; the first is no text, the last is lost where line ends are converted
 *     8    version                      u32
 *     12   number of sections           u32
 *     16   SHA-256 of bytes 0 to 16 and of the table
 *     48   table: a row of 96 bytes a section
 *              name, ASCII, filled with zeros   48 bytes
 *              offset, length                   u64 each
 *              SHA-256 of the section           32 bytes
 *     …    sections in the table's order, each at the next multiple of 64, zeros between, nothing after the last
 *
 * All numbers are little-endian. Every byte of a file is the magic, or a hash, or hashed, or known to be zero, so one flipped bit
 * anywhere is found. Offsets follow from lengths; they are written so that tools can map a section without reading this page.
 */
import { alignUp, bytesEqual, dataView, readU64, writeU64 } from '../core/bytes.ts';
import { Bug, ModelError } from '../core/errors.ts';

export interface Section {
  readonly name: string;
  readonly bytes: Uint8Array;
}
/** A section of a file, found undamaged, or to be found so later. */
export interface HashedSection extends Section {
  /** SHA-256 of its bytes. */
  readonly digest: Uint8Array;
}
export type Hash = (bytes: Uint8Array) => Uint8Array;
export type AsyncHash = (bytes: Uint8Array) => Promise<Uint8Array>;

/** Raised with every change of the format; a reader refuses what is newer than itself. */
export const FORMAT_VERSION = 1;
const MAGIC = Uint8Array.of(0x89, 0x48, 0x4f, 0x54, 0x52, 0x4f, 0x44, 0x0a);
const HEADER_BYTES = 48;
const HASHED_HEADER_BYTES = 16;
const NAME_BYTES = 48;
const ROW_BYTES = 96;
const HASH_BYTES = 32;
const ALIGNMENT = 64;
/** Far above what any engine has; bounds the table before it is read. */
const MOST_SECTIONS = 1024;

/** True where the bytes start as an engine file does, whatever follows. */
export const hasMagic = (bytes: Uint8Array): boolean => bytesEqual(bytes.subarray(0, MAGIC.length), MAGIC);

/** The file; the same sections give the same bytes. */
export function packSections(sections: readonly Section[], hash: Hash): Uint8Array<ArrayBuffer> {
  const offsets = layOut(sections.map((s) => s.bytes.length));
  const last = sections.length - 1;
  const end = last < 0 ? HEADER_BYTES : offsets[last] + sections[last].bytes.length;
  const file = new Uint8Array(end);
  const view = dataView(file);
  file.set(MAGIC);
  view.setUint32(8, FORMAT_VERSION, true);
  view.setUint32(12, sections.length, true);
  for (const [i, { name, bytes }] of sections.entries()) {
    const row = HEADER_BYTES + i * ROW_BYTES;
    if (!/^[!-~]+$/.test(name) || name.length > NAME_BYTES) throw new Bug('engine-section', `section name "${name}"`);
    file.set(new TextEncoder().encode(name), row);
    writeU64(view, row + NAME_BYTES, offsets[i]);
    writeU64(view, row + NAME_BYTES + 8, bytes.length);
    file.set(hash(bytes), row + NAME_BYTES + 16);
    file.set(bytes, offsets[i]);
  }
  file.set(hash(headerAndTable(file, sections.length)), HASHED_HEADER_BYTES);
  return file;
}

/** Which section need not be waited for. */
export interface LaterCheck {
  readonly section: string;
  /** Given what ends when it is found whole, and fails where it is not, and the SHA-256 that it should have. */
  readonly take: (check: () => Promise<void>, digest: Uint8Array) => void;
}

export interface UnpackOptions {
  readonly later?: LaterCheck;
  /** Sections of which one gets a copy: they stay as they were hashed, whatever is written to the file meanwhile. */
  readonly copied?: readonly string[];
}

/** The sections as views on the file. Throws ModelError `engine-parse` where anything is damaged, `engine-version` where it is newer. */
export async function unpackSections(
  file: Uint8Array,
  hash: AsyncHash,
  { later, copied = [] }: UnpackOptions = {},
): Promise<HashedSection[]> {
  const count = checkHeader(file);
  // Somebody may write to a mapped file between hashing and reading.
  const head = file.slice(0, HEADER_BYTES + count * ROW_BYTES);
  const stated = head.subarray(HASHED_HEADER_BYTES, HEADER_BYTES);
  if (!bytesEqual(await hash(headerAndTable(head, count)), stated)) throw damaged('its header or table has changed');
  const rows = readTable(file, head, count, copied);
  checkPadding(file, rows);
  const check = async ({ name, bytes, digest }: Row): Promise<void> => {
    if (!bytesEqual(await hash(bytes), digest)) throw damaged(`section "${name}" has changed`);
  };
  for (const row of rows) {
    if (row.name === later?.section) later.take(() => check(row), row.digest);
    else await check(row);
  }
  return rows.map(({ name, bytes, digest }) => ({ name, bytes, digest }));
}

export const damaged = (what: string, cause?: unknown): ModelError =>
  new ModelError('engine-parse', `the engine file is damaged: ${what}`, { hint: 'build the engine again', cause });

/** Where sections of these lengths lie. */
function layOut(lengths: readonly number[]): number[] {
  let end = HEADER_BYTES + lengths.length * ROW_BYTES;
  return lengths.map((length) => {
    const offset = alignUp(end, ALIGNMENT);
    end = offset + length;
    return offset;
  });
}

/** What the hash in the header is of: the bytes before it and the table after it. */
function headerAndTable(file: Uint8Array, count: number): Uint8Array {
  const table = file.subarray(HEADER_BYTES, HEADER_BYTES + count * ROW_BYTES);
  const out = new Uint8Array(HASHED_HEADER_BYTES + table.length);
  out.set(file.subarray(0, HASHED_HEADER_BYTES));
  out.set(table, HASHED_HEADER_BYTES);
  return out;
}

/** The number of sections. */
function checkHeader(file: Uint8Array): number {
  if (!hasMagic(file)) throw new ModelError('engine-parse', 'the bytes are not an engine file');
  if (file.length < HEADER_BYTES) throw damaged(`it ends in its header, after ${file.length} bytes`);
  const view = dataView(file);
  const version = view.getUint32(8, true);
  if (version > FORMAT_VERSION) {
    throw new ModelError(
      'engine-version',
      `the engine has format ${version}, this Hotrod reads up to ${FORMAT_VERSION}`,
      {
        hint: 'update Hotrod, or build the engine again with this one',
      },
    );
  }
  if (version === 0) throw damaged('its format version is 0');
  const count = view.getUint32(12, true);
  if (count > MOST_SECTIONS) throw damaged(`it claims ${count} sections`);
  if (file.length < HEADER_BYTES + count * ROW_BYTES) throw damaged(`it ends in its table, after ${file.length} bytes`);
  return count;
}

interface Row extends HashedSection {
  readonly offset: number;
}

function readTable(file: Uint8Array, head: Uint8Array, count: number, copied: readonly string[]): Row[] {
  const view = dataView(head);
  const rowAt = (i: number): number => HEADER_BYTES + i * ROW_BYTES;
  const lengths = Array.from({ length: count }, (_, i) => readU64(view, rowAt(i) + NAME_BYTES + 8) ?? Number.NaN);
  const offsets = layOut(lengths);
  const end = count === 0 ? HEADER_BYTES : offsets[count - 1] + lengths[count - 1];
  if (end !== file.length) throw damaged(`it should have ${end} bytes and has ${file.length}`);
  const names = new Set<string>();
  return lengths.map((length, i) => {
    const row = rowAt(i);
    const name = readName(head.subarray(row, row + NAME_BYTES));
    if (name === undefined || names.has(name)) throw damaged(`row ${i} of its table has no name of its own`);
    names.add(name);
    const offset = offsets[i];
    if (readU64(view, row + NAME_BYTES) !== offset) throw damaged(`section "${name}" is not where it should be`);
    const digest = head.subarray(row + NAME_BYTES + 16, row + NAME_BYTES + 16 + HASH_BYTES);
    const bytes = file.subarray(offset, offset + length);
    return { name, offset, digest, bytes: copied.includes(name) ? bytes.slice() : bytes };
  });
}

function readName(bytes: Uint8Array): string | undefined {
  const name = String.fromCharCode(...bytes).replace(/\0+$/, '');
  return /^[!-~]+$/.test(name) ? name : undefined;
}

function checkPadding(file: Uint8Array, rows: readonly Row[]): void {
  let end = HEADER_BYTES + rows.length * ROW_BYTES;
  for (const { name, offset, bytes } of rows) {
    if (file.subarray(end, offset).some((byte) => byte !== 0))
      throw damaged(`bytes before section "${name}" are not zero`);
    end = offset + bytes.length;
  }
}
