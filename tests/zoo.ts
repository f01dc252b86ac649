/**
 * The shared architectures beside the checkout: their graphs, weights made from the recipes, inputs and expected samples.
 * Absent, the tests that want them skip and say so.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Tensor, toNumbers } from '../src/core/tensor.ts';

export const SHARED = fileURLToPath(new URL('../../shared/', import.meta.url));
const ZOO = join(SHARED, 'zoo');

interface Recipe {
  readonly inputs: readonly { readonly name: string; readonly shape: readonly number[]; readonly kind: string }[];
}
interface ZooScripts {
  makeWeights(dir: string, name: string, outDir: string): Recipe;
  makeInputs(recipe: Recipe): Record<string, { readonly shape: number[]; readonly data: Float32Array | BigInt64Array }>;
}
interface Expected {
  readonly outputs: Readonly<
    Record<string, { readonly dims: number[]; readonly rms: number; readonly step: number; readonly samples: number[] }>
  >;
}

export interface ZooModel {
  readonly bytes: Uint8Array;
  readonly openExternal: (location: string) => Uint8Array;
  readonly inputs: ReadonlyMap<string, Tensor>;
  readonly expected: Expected['outputs'];
  /** Removes the weights that were made. */
  dispose(): void;
}

export const zooIsPresent = (): boolean => existsSync(join(ZOO, 'weights.mjs'));

/** None where the folder is absent. */
export const ZOO_NAMES = zooIsPresent()
  ? readdirSync(ZOO)
      .filter((file) => file.endsWith('.onnx'))
      .map((file) => file.slice(0, -'.onnx'.length))
  : [];

/** Largest error of the recorded samples over the output's root mean square, of all outputs. */
export function worstError({ expected }: ZooModel, outputs: ReadonlyMap<string, Tensor>): number {
  let worst = 0;
  for (const [name, want] of Object.entries(expected)) {
    const got = outputs.get(name)!;
    if (got.shape.join() !== want.dims.join()) throw new Error(`${name} is [${got.shape}], expected [${want.dims}]`);
    const numbers = toNumbers(got);
    for (const [i, sample] of want.samples.entries()) {
      const error = Math.abs(numbers[i * want.step] - sample) / (want.rms || 1);
      worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error);
    }
  }
  return worst;
}

export async function openZooModel(name: string): Promise<ZooModel> {
  const scripts = (await import(join(ZOO, 'weights.mjs'))) as ZooScripts;
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-zoo-'));
  const recipe = scripts.makeWeights(ZOO, name, folder);
  const inputs = Object.entries(scripts.makeInputs(recipe)).map(([input, { shape, data }]): [string, Tensor] => [
    input,
    { dtype: data instanceof Float32Array ? 'f32' : 'i64', shape, data },
  ]);
  return {
    bytes: readFileSync(join(ZOO, `${name}.onnx`)),
    openExternal: (location) => readFileSync(join(folder, location)),
    inputs: new Map(inputs),
    expected: (JSON.parse(readFileSync(join(ZOO, `${name}.expected.json`), 'utf8')) as Expected).outputs,
    dispose: () => rmSync(folder, { recursive: true }),
  };
}
