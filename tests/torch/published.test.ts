/** Published weights by name: the table, and the commands that take such a name, on a mirror of this machine. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ARCHITECTURES } from '../../src/torch/architectures/all.ts';
import { PUBLISHED, publishedWeights } from '../../src/torch/published.ts';
import { hotrod } from '../cli-harness.ts';

const cache = mkdtempSync(join(tmpdir(), 'hotrod-published-'));
afterAll(() => rmSync(cache, { recursive: true }));

test('every row is of an architecture that is read, and can be checked', () => {
  for (const { arch, sha256, url, file } of PUBLISHED) {
    expect(ARCHITECTURES.has(arch), arch).toBe(true);
    expect(sha256, file).toMatch(/^[0-9a-f]{8}$/);
    expect(url).toBe(`https://download.pytorch.org/models/${file}`);
  }
  expect(new Set(PUBLISHED.map(({ file }) => file)).size).toBe(PUBLISHED.length);
});

test('a name is an architecture, and weights of it', () => {
  expect(publishedWeights('resnet50')?.file).toBe('resnet50-0676ba61.pth');
  for (const name of ['resnet50:IMAGENET1K_V2', 'resnet50:v2']) {
    expect(publishedWeights(name)?.file).toBe('resnet50-11ad3fa6.pth');
  }
  expect(publishedWeights('vit_h_14')?.weights).toBe('IMAGENET1K_SWAG_E2E_V1');
  for (const name of ['resnet51', 'resnet50:v3', 'resnet50.pth', '']) expect(publishedWeights(name)).toBeUndefined();
});

test('without a network the commands say what to fetch and where to put it', () => {
  const env = { XDG_CACHE_HOME: cache, HOTROD_WEIGHTS_URL: 'http://127.0.0.1:1/models/' };
  const place = join(cache, 'hotrod/weights/resnet50-0676ba61.pth');
  for (const args of [
    ['download', 'resnet50'],
    ['export', 'resnet50', '-o', join(cache, 'x.onnx')],
    ['inspect', 'resnet50'],
  ]) {
    const { status, stderr } = hotrod(args, { env });
    expect([status, stderr]).toEqual([2, expect.stringContaining(`put it at ${place}`)]);
    expect(stderr).toContain('http://127.0.0.1:1/models/resnet50-0676ba61.pth');
  }
  // What lies there by hand is used if it is what it should be.
  writeFileSync(join(cache, 'hotrod/weights/resnet50-0676ba61.pth'), 'no weights');
  expect(hotrod(['download', 'resnet50'], { env }).status).toBe(2);
  expect(readFileSync(place, 'utf8')).toBe('no weights');
});

test('unknown names list those that are', () => {
  const { status, stderr } = hotrod(['download', 'resnet51']);
  expect([status, stderr]).toEqual([2, expect.stringMatching(/resnet51[\s\S]*resnet50/)]);
  const list = hotrod(['download', '--list', '--json']);
  expect(JSON.parse(list.stdout).names).toContain('resnet50:IMAGENET1K_V2');
});

test('the digest is of the whole file', () => {
  expect(
    createHash('sha256')
      .update('')
      .digest('hex')
      .startsWith(publishedWeights('resnet50')?.sha256 ?? ''),
  ).toBe(false);
});
