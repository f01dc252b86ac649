/**
 * The viewer's page in a browser: it draws, finds, folds, walks by keys, follows the system's theme, says what a screen reader needs,
 * and asks nobody for anything. The pages are what `hotrod view` writes and serves.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { graphBuilder } from '../src/graph/build.ts';
import { OPS } from '../src/ops/all.ts';
import { pageHtml } from '../src/view/page-html.ts';
import { pageModel } from '../src/view/page-model.ts';
import { CLI, hotrod, ROOT, temporaryFolder } from './cli-harness.ts';

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path),
);
const NETWORK = join(ROOT, 'node_modules/detypify-service/train/model.onnx');
const TEMPLATE = join(ROOT, 'dist/viewer/page.html');

/** Ten thousand nodes whose names say nothing: five hundred residual blocks of twenty. */
function bigPage(): string {
  const b = graphBuilder('big', OPS);
  let x = b.input('x', 'f32', [1, 64, 8, 8]);
  for (let block = 0; block < 500; block++) {
    const [skip] = b.node('Neg', [x]);
    for (let i = 0; i < 18; i++) [x] = b.node(['Relu', 'Sigmoid', 'Tanh'][i % 3], [x]);
    [x] = b.node('Add', [x, skip]);
  }
  b.output(x);
  return pageHtml(readFileSync(TEMPLATE, 'utf8'), pageModel({ name: 'big', graph: b.finish(), ops: OPS }));
}

/** Distinct colours on a canvas, sampled: more than a few means that something is drawn. */
const coloursDrawn = (page: Page, side: string): Promise<number> =>
  page.evaluate((name) => {
    const canvas = document.querySelector(`canvas[data-side=${name}]`) as HTMLCanvasElement;
    const { data } = (canvas.getContext('2d') as CanvasRenderingContext2D).getImageData(
      0,
      0,
      canvas.width,
      canvas.height,
    );
    const seen = new Set<number>();
    const words = new Uint32Array(data.buffer);
    for (let i = 0; i < words.length; i += 7) seen.add(words[i]);
    return seen.size;
  }, side);
const panelTitle = (page: Page): Promise<string | null> => page.textContent('#panel h2');
const settled = (page: Page): Promise<unknown> =>
  page.evaluate(() => new Promise((done) => setTimeout(() => requestAnimationFrame(done), 150)));

describe.skipIf(CHROMIUM === undefined)(`viewer in Chromium${CHROMIUM === undefined ? ' (not installed)' : ''}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-view-'));
  const html = join(folder, 'symbols.html');
  let browser: Browser;

  beforeAll(async () => {
    const { status, stderr } = hotrod(['view', NETWORK, '--html', html, '--profile', '--target', 'wasm']);
    expect(status, stderr).toBe(0);
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: ['--no-sandbox'] });
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Opens the page and calls `work`; then nothing may have failed and nothing may have been asked of anyone. */
  async function inPage(
    url: string,
    work: (page: Page) => Promise<void>,
    options: BrowserContextOptions = {},
  ): Promise<void> {
    const context = await browser.newContext({ viewport: { width: 1300, height: 850 }, ...options });
    const page = await context.newPage();
    const wrong: string[] = [];
    page.on('pageerror', (error) => wrong.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && wrong.push(message.text()));
    page.on('request', (request) => {
      if (!/^(blob|data):/.test(request.url()) && request.url().split('#')[0] !== url.split('#')[0])
        wrong.push(`asked for ${request.url()}`);
    });
    try {
      await page.goto(url);
      await page.waitForSelector('html[data-ready]');
      await settled(page);
      await work(page);
      expect(wrong).toEqual([]);
    } finally {
      await context.close();
    }
  }
  const symbols = (hash = '') => `${pathToFileURL(html)}${hash}`;

  test('draws the model and the engine, coloured by the times that were measured', () =>
    inPage(symbols(), async (page) => {
      expect(await coloursDrawn(page, 'graph')).toBeGreaterThan(20);
      expect(await coloursDrawn(page, 'engine')).toBeGreaterThan(20);
      expect(await page.inputValue('#colour')).toBe('ms');
      expect(await page.textContent('#legend')).toMatch(/time: 0.*ms|time: 0.*µs/);
      await page.selectOption('#colour', 'flops');
      expect(await page.textContent('#legend')).toMatch(/FLOP/);
      await page.selectOption('#show', 'engine');
      expect(await page.isVisible('canvas[data-side=graph]')).toBe(false);
    }));

  test('search opens the way to what it finds; the panel has attributes, weights and the step', () =>
    inPage(symbols(), async (page) => {
      await page.keyboard.press('/');
      await page.keyboard.type('conv');
      expect(await page.getAttribute('#search', 'aria-expanded')).toBe('true');
      const options = await page.locator('#results [role=option]').count();
      expect(options).toBeGreaterThan(5);
      await page.keyboard.press('ArrowDown');
      expect(await page.getAttribute('#search', 'aria-activedescendant')).toBe('found-1');
      await page.keyboard.press('Enter');
      await settled(page);
      expect(await panelTitle(page)).toMatch(/Conv/);
      const panel = (await page.textContent('#panel')) ?? '';
      expect(panel).toMatch(/dilations\[1, 1\]/);
      expect(panel).toMatch(/Computed by/);
      expect(await page.locator('#panel svg[role=img]').first().getAttribute('aria-label')).toMatch(
        /Histogram of .* mean/,
      );
      expect(await page.textContent('#live')).toMatch(/Conv .* gives f32/);
      expect(page.url()).toMatch(/#node=/);
    }));

  test('a link to a node selects it, and its step on the other side', () =>
    inPage(symbols('#step=0'), async (page) => {
      const step = await panelTitle(page);
      expect(step).not.toBeNull();
      await page.goto(symbols('#node=node_relu'));
      await settled(page);
      expect(await panelTitle(page)).toBe('Relu');
      await page.keyboard.press('o');
      await settled(page);
      expect(await panelTitle(page)).toMatch(/Conv \+ Relu/);
      expect(await page.evaluate(() => document.activeElement?.getAttribute('data-side'))).toBe('engine');
      expect(page.url()).toMatch(/#step=/);
    }));

  test('arrows walk the graph, Enter and Backspace open and close blocks, Esc lets go', () =>
    inPage(symbols(), async (page) => {
      await page.focus('canvas[data-side=graph]');
      const titles: (string | null)[] = [];
      for (let i = 0; i < 4; i++) {
        await page.keyboard.press('ArrowDown');
        await settled(page);
        titles.push(await panelTitle(page));
      }
      expect(titles.slice(0, 3)).toEqual(['input', 'Conv', 'Relu']);
      expect(titles[3]).toMatch(/^block/);
      const button = page.locator('#panel button', { hasText: /this block/ });
      expect(await button.textContent()).toBe('Open this block');
      await page.keyboard.press('Enter');
      await settled(page);
      await page.keyboard.press('ArrowDown');
      await settled(page);
      await page.keyboard.press('ArrowUp');
      await settled(page);
      expect(await panelTitle(page)).not.toMatch(/^block/);
      await page.keyboard.press('Backspace');
      await settled(page);
      expect(await panelTitle(page)).toBe(titles[3]);
      await page.keyboard.press('Escape');
      expect(await panelTitle(page)).toBe('model');
      await page.keyboard.press('?');
      expect(await page.isVisible('dialog#keys')).toBe(true);
      await page.keyboard.press('Escape');
      expect(await page.isVisible('dialog#keys')).toBe(false);
    }));

  test('what is under the pointer is found, and a click selects it', () =>
    inPage(symbols(), async (page) => {
      await page.keyboard.press('e');
      await settled(page);
      await page.keyboard.press('c');
      await settled(page);
      const canvas = page.locator('canvas[data-side=engine]');
      const { width, height } = (await canvas.boundingBox()) as { width: number; height: number };
      // The input stands at the top in the middle; move down until something is under the pointer.
      let [found, y] = [false, 20];
      while (y < height && !found) {
        y += 6;
        await canvas.hover({ position: { x: width / 2, y } });
        found = await canvas.evaluate((element) => element.classList.contains('over'));
      }
      expect(found).toBe(true);
      expect(await panelTitle(page)).toBe('model');
      await canvas.click({ position: { x: width / 2, y } });
      expect(await panelTitle(page)).toMatch(/input|Conv/);
      expect(page.url()).toMatch(/#step=/);
    }));

  test('the list is a tree that keys walk', () =>
    inPage(symbols(), async (page) => {
      await page.keyboard.press('l');
      expect(await page.locator('[role=tree]').count()).toBe(2);
      expect(await page.evaluate(() => document.activeElement?.getAttribute('role'))).toBe('treeitem');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Enter');
      await settled(page);
      expect(await panelTitle(page)).toBe('Conv');
      const block = page.locator('[role=treeitem][aria-expanded=false]').first();
      await block.focus();
      await page.keyboard.press('ArrowRight');
      expect(await page.locator('[role=treeitem][aria-expanded=true]').count()).toBe(1);
      expect(await page.locator('[role=treeitem][aria-level="2"]').count()).toBeGreaterThan(1);
      // One stop for the Tab key in all of it.
      expect(await page.locator('#outline [tabindex="0"]').count()).toBe(1);
    }));

  test('controls have names, and the theme follows the system and the button', async () => {
    const ground = (page: Page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await inPage(symbols(), async (page) => {
      const nameless = await page.evaluate(() =>
        [...document.querySelectorAll('button, input, select, canvas, nav, aside, [role=listbox]')]
          .filter((e) => !(e.getAttribute('aria-label') || e.textContent?.trim()))
          .map((e) => e.outerHTML),
      );
      expect(nameless).toEqual([]);
      const light = await ground(page);
      await page.keyboard.press('t');
      expect(await ground(page)).not.toBe(light);
    });
    await inPage(symbols(), async (page) => expect(await ground(page)).toBe('rgb(20, 23, 28)'), {
      colorScheme: 'dark',
    });
  });

  test('on a narrow screen there is one graph, and the page does not scroll sideways', () =>
    inPage(
      symbols('#node=node_relu'),
      async (page) => {
        expect(await page.isVisible('canvas[data-side=graph]')).toBe(true);
        expect(await page.isVisible('canvas[data-side=engine]')).toBe(false);
        expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(400);
        expect(await page.isVisible('#panel h2')).toBe(true);
      },
      { viewport: { width: 400, height: 800 } },
    ));

  test('ten thousand nodes: folded first, all of them on request', () => {
    const file = join(folder, 'big.html');
    writeFileSync(file, bigPage());
    return inPage(`${pathToFileURL(file)}`, async (page) => {
      expect(await coloursDrawn(page, 'graph')).toBeGreaterThan(10);
      expect(await page.textContent('#panel')).toMatch(/10,000/);
      await page.keyboard.press('e');
      await page.waitForFunction(() => performance.now() > 0);
      await settled(page);
      await page.keyboard.press('/');
      await page.keyboard.type('add');
      await page.keyboard.press('Enter');
      await settled(page);
      expect(await panelTitle(page)).toBe('Add');
      const first = await page.evaluate(() => performance.getEntriesByName('hotrod-first-picture')[0].startTime);
      console.log(`10,000 nodes: first picture after ${Math.round(first)} ms`);
    });
  });

  test('served to this machine under its own name only', async () => {
    const child = spawn(process.execPath, [CLI, 'view', NETWORK, '--no-open', '--no-engine', '--json'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      const line = await new Promise<string>((resolve, reject) => {
        child.stdout.once('data', (data) => resolve(String(data)));
        child.once('exit', () => reject(new Error('view ended before it served')));
      });
      const { url } = JSON.parse(line) as { url: string };
      await inPage(url, async (page) => {
        expect(await coloursDrawn(page, 'graph')).toBeGreaterThan(20);
        expect(await page.inputValue('#show')).toBe('graph');
      });
      expect((await fetch(`${url}other`)).status).toBe(404);
      // Names that resolve to this machine from elsewhere are refused; fetch does not let the header be set.
      const status = await new Promise((resolve) =>
        httpRequest(url, { headers: { Host: 'evil.example' } }, (r) => resolve(r.statusCode)).end(),
      );
      expect(status).toBe(404);
    } finally {
      child.kill();
    }
  });
});

test('what cannot be viewed is said', () => {
  const file = join(temporaryFolder(), 'times.json');
  writeFileSync(file, '{"layers":[{"name":"x","ms":1}]}');
  const { status, stderr } = hotrod(['view', NETWORK, '--profile', file, '--html', 'x.html', '--target', 'wasm']);
  expect(status).toBe(2);
  expect(stderr).toMatch(/of another engine: 1 layers/);
});
