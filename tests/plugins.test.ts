/** The worked example of docs/plugins.md: it runs as it stands there, and gives what its definitions say, on every target. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { build } from '../src/build.ts';
import { fromNumbers, toNumbers } from '../src/core/tensor.ts';
import { evalGraph, type Graph, OPS, type Op } from '../src/index.ts';
import { runModelOn } from './engine-runner.ts';

const folder = mkdtempSync(join(tmpdir(), 'plugins-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const root = fileURLToPath(new URL('..', import.meta.url));
const page = readFileSync(join(root, 'docs/plugins.md'), 'utf8');
const code = /```js\n([\s\S]*?)```/.exec(page)![1];

interface Example {
  readonly outputs: Readonly<Record<string, Float32Array>>;
  readonly graph: Graph;
  readonly ops: readonly Op[];
}

async function example(): Promise<Example> {
  const local = code
    .replace("'hotrod'", `'${pathToFileURL(join(root, 'src/index.ts'))}'`)
    .replace("'hotrod/runtime'", `'${pathToFileURL(join(root, 'src/runtime/runtime.ts'))}'`)
    .replace('const ops = [', 'export const ops = [')
    .replace('await build(b.finish(),', 'await build((graph = b.finish()),');
  const file = join(folder, 'example.mjs');
  writeFileSync(file, `export let graph;\n${local}`);
  return import(/* @vite-ignore */ pathToFileURL(file).href) as Promise<Example>;
}

const X = [-2, -1, 0, 1, 2, 3, 4, 5, 6, 7];
const gated = X.map((v) => (0.5 * Math.max(v, 0) ** 2) / (1 + Math.exp(-v)));
const SPREAD = [0, 5].map((at) => {
  const row = gated.slice(at, at + 5);
  return Math.max(...row) - Math.min(...row);
});
const SOFT = X.map((v) => Math.max(v, 0));

const expectClose = (got: ArrayLike<number>, wanted: readonly number[]): void => {
  expect(got.length).toBe(wanted.length);
  wanted.forEach((v, i) => {
    expect(got[i]).toBeCloseTo(v, 4);
  });
};

it('the page runs and gives what it says', async () => {
  const { outputs } = await example();
  expectClose(outputs.spread, SPREAD);
  expectClose(outputs.soft, SOFT);
});

it('definitions and kernels agree, with fewer kernels than nodes', async () => {
  const { graph, ops } = await example();
  const inputs = new Map([['x', fromNumbers('f32', [2, 5], X)]]);
  const table = new Map([...OPS, ...ops.map((op) => [op.key, op] as const)]);
  for (const outputs of [evalGraph(graph, table, inputs), await runModelOn('wasm', graph, inputs, { ops })]) {
    expectClose(toNumbers(outputs.get('spread')!), SPREAD);
    expectClose(toNumbers(outputs.get('soft')!), SOFT);
  }
  const { steps } = (await build(graph, { target: 'wasm', ops })).engine;
  expect(steps.length).toBeLessThan(graph.nodes.length);
});

it('without the option the nodes are refused by name', async () => {
  const { graph } = await example();
  await expect(build(graph, { target: 'wasm' })).rejects.toThrow(/acme\.Gate, acme\.Spread, acme\.SquaredRelu/);
});
