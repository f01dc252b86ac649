import { expect, test } from 'vitest';
import { ModelError } from '../core/errors.ts';
import { decodePicture } from '../vision/decode.ts';
import { chartFile } from './chart.ts';

const BARS = [
  { name: 'reference', value: 120, ours: false },
  { name: 'hotrod wasm', value: 4.56, ours: true },
];

test('the SVG names every bar with its figure', async () => {
  const svg = new TextDecoder().decode(await chartFile('a.svg', 'A <title>', BARS));
  expect(svg).toMatch(/^<svg[^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  const speedup = 'hotrod wasm is 26.3 times as fast as reference';
  for (const text of ['reference', '120 ms (26.3 x)', '4.56 ms', speedup, 'A &lt;title&gt;'])
    expect(svg).toContain(text);
  expect(svg.match(/<rect/g)).toHaveLength(2);
});

test('the PNG is a picture that is not all white', async () => {
  const { width, rgb } = await decodePicture(await chartFile('a.png', 'title', BARS), { file: 'a.png' });
  expect(width).toBeGreaterThanOrEqual(720);
  expect(new Set(rgb).size).toBeGreaterThan(2);
});

test('other names are refused', async () => {
  await expect(chartFile('a.jpg', 'title', BARS)).rejects.toThrow(ModelError);
});
