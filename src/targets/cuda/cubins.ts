/**
 * PTX texts to cubins: from the user's cache, from the engine where the caller trusts its file, else compiled and kept.
 *
 * A cubin is machine code, and the driver takes one that is damaged at its word, so entries of the cache are sealed. The key says all that
 * a cubin depends on: the text, the driver, the chip.
 */
import { compileAll } from '../../cuda/compile.ts';
import type { Context } from '../../cuda/context.ts';
import type { CudaDevice } from '../../cuda/device.ts';
import type { Driver } from '../../cuda/driver.ts';
import type { CodeSection } from '../../engine/engine.ts';
import { type CacheFolder, openUserCache } from '../../host/cache-folder.ts';
import { keyOf, readSealed, seal, unseal } from '../../host/sealed.ts';
import { sha256 } from '../../host/sha256.ts';

/** All cubins of a user together. */
const MAX_CACHE_BYTES = 512 * 2 ** 20;
const SECTION_PREFIX = 'cubin-';

let cache: CacheFolder | undefined | null = null;

/** The cubins of this user; undefined where there is no place for them, or none is wanted. */
export function userCubins(): CacheFolder | undefined {
  if (cache === null) cache = openUserCache('cubins');
  return cache;
}

export interface CubinSources {
  readonly cache: CacheFolder | undefined;
  /** The engine's code sections; empty unless the file is trusted. */
  readonly embedded: readonly CodeSection[];
}

export interface Cubins {
  /** One a text, in order. */
  readonly images: readonly Uint8Array[];
  readonly keys: readonly string[];
  /** How many had to be compiled. */
  readonly compiled: number;
}

/** The GPU that cubins are for; made a context of where something has to be compiled. */
export interface CubinGpu {
  readonly driver: Driver;
  readonly device: CudaDevice;
  context(): Context | Promise<Context>;
}

export const gpuOf = (context: Context): CubinGpu => ({
  driver: context.driver,
  device: context.device,
  context: () => context,
});

/** Throws ModelError `device-code` with the compiler's log where a text is not PTX for this GPU. */
export async function obtainCubins(gpu: CubinGpu, ptxs: readonly string[], sources: CubinSources): Promise<Cubins> {
  const keys = await Promise.all(ptxs.map((ptx) => cubinKey(gpu, ptx)));
  const known = new Map<string, Uint8Array>();
  for (const key of new Set(keys)) {
    const image =
      (await embeddedCubin(sources.embedded, key)) ?? (sources.cache && (await readSealed(sources.cache, key)));
    if (image) known.set(key, image);
  }
  const missing = [...new Set(keys)].filter((key) => !known.has(key));
  const texts = missing.map((key) => ptxs[keys.indexOf(key)]);
  const compiled = texts.length > 0 ? await compileAll(await gpu.context(), texts) : [];
  for (const [i, key] of missing.entries()) {
    known.set(key, compiled[i].cubin);
    sources.cache?.write(key, await seal(compiled[i].cubin));
  }
  if (missing.length > 0) sources.cache?.trim(MAX_CACHE_BYTES);
  return { images: keys.map((key) => known.get(key) as Uint8Array), keys, compiled: missing.length };
}

/** The cubins of those keys; undefined where one is missing. */
export async function keptCubins(cache: CacheFolder, keys: readonly string[]): Promise<Uint8Array[] | undefined> {
  const images: Uint8Array[] = [];
  for (const key of keys) {
    const image = await readSealed(cache, key);
    if (!image) return undefined;
    images.push(image);
  }
  return images;
}

/** The cubins as sections of an engine file. */
export async function cubinSections({ images, keys }: Cubins): Promise<readonly CodeSection[]> {
  const byKey = new Map(keys.map((key, i) => [key, images[i]]));
  const sorted = [...byKey].sort(([a], [b]) => (a < b ? -1 : 1));
  return Promise.all(sorted.map(async ([key, image]) => ({ name: SECTION_PREFIX + key, bytes: await seal(image) })));
}

async function cubinKey({ driver, device }: CubinGpu, ptx: string): Promise<string> {
  const text = `driver ${driver.version} sm_${device.computeCapability}\n${ptx}`;
  return keyOf(await sha256(new TextEncoder().encode(text)));
}

async function embeddedCubin(sections: readonly CodeSection[], key: string): Promise<Uint8Array | undefined> {
  const section = sections.find(({ name }) => name === SECTION_PREFIX + key);
  return section && (await unseal(section.bytes));
}
