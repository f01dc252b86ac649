/**
 * Engine to bytes and back.
 *
 * A file holds data only: a manifest, kernels as text, weights, code for a sandbox. Reading believes nothing: hashes find damage,
 * checks of the manifest and of what it refers to find a hostile file, so whatever the bytes are the answer is a valid engine or a
 * ModelError. The same engine gives the same bytes. Weights and code of a parsed engine are views on the file, at multiples of 64.
 */
import { sha256 } from '../core/hash.ts';
import type { Kernel } from '../loop/ir.ts';
import { parseKernel } from '../loop/parse.ts';
import { printKernel } from '../loop/print.ts';
import {
  type AsyncHash,
  damaged,
  type Hash,
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
   * Given the promise that the weights are undamaged, which parsing then does not wait for; it may reject as parsing may. Until it is
   * settled the engine may be opened, but its answers may be of damaged weights.
   */
  readonly later?: (check: Promise<void>) => void;
}

const CODE_PREFIX = 'code/';
/** Kernels' lines are never empty, so an empty line parts them. */
const KERNEL_SEPARATOR = '\n\n';

/** True where the bytes start as an engine file does, whatever follows. */
export const isEngine = hasMagic;

export function serializeEngine(engine: Engine, options: SerializeOptions = {}): Uint8Array<ArrayBuffer> {
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  const sections: Section[] = [
    { name: 'manifest', bytes: encode(writeManifest(engine)) },
    { name: 'kernels', bytes: encode(engine.kernels.map(printKernel).join(KERNEL_SEPARATOR)) },
    { name: 'weights', bytes: engine.weightBytes },
    ...engine.code.map(({ name, bytes }) => ({ name: `${CODE_PREFIX}${name}`, bytes })),
  ];
  if (engine.graph !== undefined) sections.push({ name: 'graph', bytes: encode(engine.graph) });
  return packSections(sections, options.sha256 ?? sha256);
}

/** Throws ModelError `engine-parse` where the bytes are no engine or are damaged, `engine-version` where their format is newer. */
export async function parseEngine(bytes: Uint8Array, options: ParseOptions = {}): Promise<Engine> {
  const hash = options.sha256 ?? (async (b: Uint8Array) => sha256(b));
  const unpacked = await unpackSections(bytes, hash, options.later && { section: 'weights', take: options.later });
  const sections = new Map(unpacked.map((s) => [s.name, s.bytes]));
  const take = (name: string): Uint8Array => {
    const section = sections.get(name);
    if (section === undefined) throw damaged(`section "${name}" is missing`);
    sections.delete(name);
    return section;
  };
  const manifest = readManifest(parseJson(decode(take('manifest'), 'manifest')));
  const kernels = readKernels(decode(take('kernels'), 'kernels'));
  const weightBytes = take('weights');
  const graph = sections.has('graph') ? decode(take('graph'), 'graph') : undefined;
  const engine: Engine = {
    ...manifest,
    kernels,
    weightBytes,
    code: [...sections].map(readCode),
    ...(graph !== undefined && { graph }),
  };
  validateEngine(engine);
  return engine;
}

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

function readCode([name, bytes]: [string, Uint8Array]): CodeSection {
  if (!name.startsWith(CODE_PREFIX)) throw damaged(`it has an unknown section "${name}"`);
  return { name: name.slice(CODE_PREFIX.length), bytes };
}
