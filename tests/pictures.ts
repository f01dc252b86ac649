/** Pictures for tests, the same on every machine: a smooth gradient with seeded noise over it. */
import type { Picture } from '../src/vision/picture.ts';

export function noisePicture(width: number, height: number, seed: number): Picture {
  const rgb = new Uint8Array(width * height * 3);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < rgb.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const smooth = ((i % (width * 3)) / (width * 3) + i / rgb.length) * 127;
    rgb[i] = (smooth + (state >>> 25)) & 255;
  }
  return { width, height, rgb };
}
