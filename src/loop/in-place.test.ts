import { describe, expect, it } from 'vitest';
import { sharedPlaces } from './in-place.ts';
import type { Kernel } from './ir.ts';
import { parseKernel } from './parse.ts';

const places = (kernel: Kernel): string[] => sharedPlaces(kernel).map(({ from, to }) => `${to} for ${from}`);
const BUFFERS = 'in x: f32[129], in z: f32[128], in half: f16[128], out y: f32[128]';

describe('a result may take the place of', () => {
  it.each([
    ['what is read where it is stored', 'y[i] = max(x[i], 0)', ['y for x']],
    ['either operand', 'y[i] = x[i] + z[i]', ['y for x', 'y for z']],
    ['what is read twice at one place', 'let t: f32 = x[i] y[i] = t * x[i]', ['y for x']],
    ['nothing that is read elsewhere too', 'y[i] = x[i] + x[127 - i]', []],
    ['nothing that is read one element on', 'y[i] = x[i + 1]', []],
    ['nothing that is read after the store', 'y[i] = z[i] let t: f32 = x[i]', ['y for z']],
    ['nothing where it is stored twice', 'y[i] = x[i] y[i] = z[i]', []],
    ['nothing of another width', 'y[i] = f32(half[i])', []],
    ['nothing that is summed', 'reduce s: f32 = add over j < 128 of x[j] y[i] = s + z[i]', ['y for z']],
  ])('%s', (_, body, expected) => {
    expect(places(parseKernel(`kernel k = map (${BUFFERS}) for i < 128 { ${body} }`))).toEqual(expected);
  });

  it.each([
    ['nothing where two points store one element', 'i < 4, j < 8', 'y[i * 7 + j] = x[i * 7 + j]', []],
    ['what lies in any order', 'i < 4, j < 8', 'y[j * 4 + i] = x[j * 4 + i]', ['y for x']],
    ['nothing where an axis does not move the index', 'i < 4, j < 8', 'y[i] = x[i]', []],
  ])('%s', (_, axes, body, expected) => {
    expect(places(parseKernel(`kernel k = map (${BUFFERS}) for ${axes} { ${body} }`))).toEqual(expected);
  });
});
