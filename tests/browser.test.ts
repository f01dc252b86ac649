/**
 * `hotrod/runtime` in a browser: a page imports it as it is built, without a bundler, fetches an engine and runs it on wasm, with and
 * without cross-origin isolation, and gets the outputs that Node gets.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { build } from '../src/build.ts';
import { tensorBytes } from '../src/core/tensor.ts';
import { serializeEngine } from '../src/engine/format.ts';
import { load } from '../src/runtime/runtime.ts';
import { decodePicture } from '../src/vision/decode.ts';
import { preprocess } from '../src/vision/preprocess.ts';
import { PRESETS } from '../src/vision/presets.ts';
import { CLI, ROOT } from './cli-harness.ts';
import { noisePicture } from './pictures.ts';

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path),
);
const NETWORK = join(ROOT, 'node_modules/detypify-service/train/model.onnx');
const TYPES: Readonly<Record<string, string>> = { '.js': 'text/javascript', '.html': 'text/html' };
/** What makes a page cross-origin isolated, so that it may share memory with its workers. */
const ISOLATION = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

interface PageResult {
  readonly first: readonly number[];
  readonly second: readonly number[];
  readonly threads: number;
  readonly features: readonly string[];
  readonly warnings: readonly string[];
  readonly isolated: boolean;
}

type Decode = (path: string) => Promise<{ width: number; height: number; rgb: number[] }>;

/** Serves the page, the built files and `made`, the bytes by path. */
function serve(made: ReadonlyMap<string, Uint8Array>, headers: Readonly<Record<string, string>>): Promise<Server> {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? '/', 'http://localhost').pathname);
    const file = path === '/' ? join(ROOT, 'tests/browser-page.html') : join(ROOT, path);
    const bytes =
      made.get(path) ??
      ((path === '/' || path.startsWith('/dist/')) && existsSync(file) ? readFileSync(file) : undefined);
    const type = TYPES[extname(file)] ?? 'application/octet-stream';
    response.writeHead(bytes === undefined ? 404 : 200, { 'Content-Type': type, ...headers });
    response.end(bytes);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

describe.skipIf(CHROMIUM === undefined)(`in Chromium${CHROMIUM === undefined ? ' (not installed)' : ''}`, () => {
  const made = new Map<string, Uint8Array>();
  let browser: Browser;
  let expected: { readonly outputs: readonly number[]; readonly features: readonly string[] };

  beforeAll(async () => {
    if (!existsSync(CLI)) throw new Error('the runtime is not built: npm run build');
    const picture = await decodePicture(readFileSync(join(ROOT, 'assets/infinity.png')), { file: 'infinity.png' });
    const input = preprocess(picture, PRESETS.grey.steps);
    const { engine } = await build(readFileSync(NETWORK), { target: 'wasm' });
    made.set('/engine', serializeEngine(engine));
    made.set('/input', tensorBytes(input));
    const loaded = await load(engine, { threads: 2 });
    const outputs = loaded.createContext().run({ [engine.inputs[0].name]: input });
    expected = { outputs: Array.from(outputs[engine.outputs[0].name] as Float32Array), features: loaded.features };
    loaded.dispose();
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: ['--no-sandbox'] });
  });
  afterAll(() => browser?.close());

  /** Calls `work` in a fresh page that was served with the headers. */
  async function inPage<T>(headers: Readonly<Record<string, string>>, work: (page: Page) => Promise<T>): Promise<T> {
    const server = await serve(made, headers);
    const page = await browser.newPage();
    try {
      const errors: string[] = [];
      page.on('pageerror', (error) => errors.push(String(error)));
      await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
      expect(errors).toEqual([]);
      return await work(page);
    } finally {
      await page.close();
      server.close();
    }
  }

  const runPage = (headers: Readonly<Record<string, string>>): Promise<PageResult> =>
    inPage(headers, (page) =>
      page.evaluate(() => (globalThis as unknown as { classify(): Promise<PageResult> }).classify()),
    );

  function expectNodesOutputs({ first, second, features }: PageResult): void {
    expect(second).toEqual(first);
    expect(first).toHaveLength(expected.outputs.length);
    expect(first.indexOf(Math.max(...first))).toBe(184);
    // Another set of instructions may round a sum otherwise; logits are of the order of 10.
    const sameCode = features.join() === expected.features.join();
    for (const [i, value] of first.entries()) {
      if (sameCode) expect(value).toBe(expected.outputs[i]);
      else expect(Math.abs(value - expected.outputs[i])).toBeLessThan(1e-3);
    }
  }

  test('isolated: threads, and the outputs of Node', async () => {
    const result = await runPage(ISOLATION);
    expect(result).toMatchObject({ isolated: true, threads: 2, warnings: [] });
    expectNodesOutputs(result);
  });

  test('not isolated: one thread, which is said once, and the outputs of Node', async () => {
    const result = await runPage({});
    expect(result).toMatchObject({ isolated: false, threads: 1 });
    expect(result.warnings).toHaveLength(1);
    expect(result.warnings[0]).toMatch(/thread/);
    expectNodesOutputs(result);
  });

  test('pictures decode to the pixels of Node, upright', async () => {
    const { width, height, rgb } = noisePicture(23, 17, 5);
    const source = () => sharp(rgb, { raw: { width, height, channels: 3 } });
    for (const orientation of [1, 3, 6]) {
      made.set(`/${orientation}.png`, await source().withMetadata({ orientation }).png().toBuffer());
      made.set(`/${orientation}.jpg`, await source().withMetadata({ orientation }).jpeg({ quality: 98 }).toBuffer());
    }
    made.set('/grey.png', await source().greyscale().png().toBuffer());
    made.set('/lossless.webp', await source().webp({ lossless: true }).toBuffer());
    const files = [...made.keys()].filter((path) => /png|jpg|webp/.test(path));
    const decoded = await inPage({}, (page) =>
      page.evaluate(
        (paths) => Promise.all(paths.map((path) => (globalThis as unknown as { decode: Decode }).decode(path))),
        files,
      ),
    );
    for (const [i, file] of files.entries()) {
      const want = await decodePicture(made.get(file) as Uint8Array, { file });
      expect([decoded[i].width, decoded[i].height], file).toEqual([want.width, want.height]);
      // Decoders of JPEG may differ in the last bit of their inverse transform.
      const tolerance = file.endsWith('.jpg') ? 3 : 0;
      const worst = decoded[i].rgb.reduce((max, x, at) => Math.max(max, Math.abs(x - want.rgb[at])), 0);
      expect(worst, file).toBeLessThanOrEqual(tolerance);
    }
  });
});
