/**
 * Engine to bytes and back.
 *
 * A file holds data only: a manifest, kernels as text, weights, code for a sandbox. Reading believes nothing: hashes find damage,
 * checks of the manifest and of what it refers to find a hostile file, so whatever the bytes are the answer is a valid engine or a
 * ModelError. The same engine gives the same bytes. Weights and code of a parsed engine are views on the file, at multiples of 64.
 */
import { hex } from '../core/bytes.ts';
import { sha256 } from '../core/hash.ts';
import type { Kernel } from '../loop/ir.ts';
import { parseKernel } from '../loop/parse.ts';
import { printKernel } from '../loop/print.ts';
import {
  type AsyncHash,
  damaged,
  type Hash,
  type HashedSection,
  hasMagic,
  packSections,
  type Section,
  unpackSections,
} from './container.ts';
import type { CodeSection, Engine } from './engine.ts';
import { readManifest, writeManifest } from './manifest.ts';
import { validateEngine } from './validate.ts';

export interface SerializeOptions {
  /** SHA-256; a pure TypeScript one where not given. */
  readonly sha256?: Hash;
}
export interface ParseOptions {
  /** SHA-256; a pure TypeScript one where not given. The platform's own is several times as fast. */
  readonly sha256?: AsyncHash;
  /**
   * Given what looks whether the weights are undamaged, which parsing then leaves to it: a function to call whose promise may reject as
   * parsing may, and the SHA-256 that the file states for them. Until then the engine may be opened, but its answers may be of damaged
   * weights.
   */
  readonly later?: (check: () => Promise<void>, digest: Uint8Array) => void;
}

const CODE_PREFIX = 'code/';
/** Kernels' lines are never empty, so an empty line parts them. */
const KERNEL_SEPARATOR = '\n\n';

/** True where the bytes start as an engine file does, whatever follows. */
export const isEngine = hasMagic;

export function serializeEngine(engine: Engine, options: SerializeOptions = {}): Uint8Array<ArrayBuffer> {
  const sections: Section[] = [
    { name: 'manifest', bytes: encode(writeManifest(engine)) },
    { name: 'kernels', bytes: encode(engine.kernels.map(printKernel).join(KERNEL_SEPARATOR)) },
    { name: 'weights', bytes: engine.weightBytes },
    ...engine.code.map(({ name, bytes }) => ({ name: `${CODE_PREFIX}${name}`, bytes })),
  ];
  if (engine.graph !== undefined) sections.push({ name: 'graph', bytes: encode(engine.graph) });
  return packSections(sections, options.sha256 ?? sha256);
}

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Throws ModelError `engine-parse` where the bytes are no engine or are damaged, `engine-version` where their format is newer. */
export async function parseEngine(bytes: Uint8Array, options: ParseOptions = {}): Promise<Engine> {
  const engine = await readEngine(bytes, options);
  validateEngine(engine);
  return engine;
}

/**
 * The same for who may find that somebody has seen it valid before: kernels are read when they are asked for, and `validateEngine` is the
 * caller's to call.
 */
export async function readEngine(bytes: Uint8Array, options: ParseOptions = {}): Promise<Engine> {
  const hash = options.sha256 ?? (async (b: Uint8Array) => sha256(b));
  const unpacked = await unpackSections(bytes, hash, {
    // What is kept of an engine goes by the digests of these, and must be of what they say.
    copied: ['manifest', 'kernels'],
    ...(options.later && { later: { section: 'weights', take: options.later } }),
  });
  const sections = new Map(unpacked.map((s) => [s.name, s]));
  const take = (name: string): HashedSection => {
    const section = sections.get(name);
    if (section === undefined) throw damaged(`section "${name}" is missing`);
    sections.delete(name);
    return section;
  };
  const [manifest, kernels, weights] = [take('manifest'), take('kernels'), take('weights')];
  const graph = sections.has('graph') ? decode(take('graph').bytes, 'graph') : undefined;
  let read: readonly Kernel[] | undefined;
  const engine: Engine = {
    ...readManifest(parseJson(decode(manifest.bytes, 'manifest'))),
    get kernels() {
      read ??= readKernels(decode(kernels.bytes, 'kernels'));
      return read;
    },
    weightBytes: weights.bytes,
    code: [...sections.values()].map(readCode),
    ...(graph !== undefined && { graph }),
  };
  fingerprints.set(engine, fingerprint(manifest.digest, kernels.digest, weights.bytes));
  return engine;
}

/** Of engines that were read from a file. */
const fingerprints = new WeakMap<Engine, string>();

/**
 * Engines of one fingerprint are equal but for what their weights and their code for sandboxes hold: whatever else is made of one may be
 * used for another. Undefined for an engine that was not read from a file.
 */
export const fileFingerprint = (engine: Engine): string | undefined => fingerprints.get(engine);

const fingerprint = (manifest: Uint8Array, kernels: Uint8Array, weights: Uint8Array): string =>
  `${hex(manifest)} ${hex(kernels)} ${weights.length}`;

function decode(bytes: Uint8Array, section: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw damaged(`section "${section}" is not text`, cause);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw damaged('its manifest is not JSON', cause);
  }
}

const readKernels = (text: string): Kernel[] => (text === '' ? [] : text.split(KERNEL_SEPARATOR).map(parseKernel));

function readCode({ name, bytes }: Section): CodeSection {
  if (!name.startsWith(CODE_PREFIX)) throw damaged(`it has an unknown section "${name}"`);
  return { name: name.slice(CODE_PREFIX.length), bytes };
}
