// Draws assets/infinity.png, the picture that `hotrod demo` classifies: a lemniscate as a slightly unsteady hand would draw it,
// one white stroke of 8 pixels on black, 224x224, 10 pixels from the edge at its widest: how the demo's network saw its strokes.
//   node scripts/draw-demo-picture.mjs
import sharp from 'sharp';

const SIZE = 224;
const MARGIN = 10;
const STROKE = 8;
const POINTS = 60;

const unsteady = (t, phase) => 0.015 * Math.sin(3 * t + phase) + 0.01 * Math.sin(7 * t + 2 * phase);

/** Bernoulli's lemniscate from a little before one crossing to a little behind it: a hand does not end where it began. */
const stroke = Array.from({ length: POINTS + 1 }, (_, i) => {
  const t = 2.5 + (i / POINTS) * 2.02 * Math.PI;
  const radius = 1 / (1 + Math.sin(t) ** 2);
  return [1.6 * Math.cos(t) * radius + unsteady(t, 1), 1.4 * Math.sin(t) * Math.cos(t) * radius + unsteady(t, 2)];
});

const [xs, ys] = [stroke.map(([x]) => x), stroke.map(([, y]) => y)];
const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
const scale = (SIZE - 2 * MARGIN) / Math.max(right - left, bottom - top);
const place = (x, low, high) => Math.round((x - (low + high) / 2) * scale + SIZE / 2);
const path = stroke.map(([x, y]) => `${place(x, left, right)} ${place(y, top, bottom)}`).join(' L');

const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${SIZE}" height="${SIZE}"><rect width="100%" height="100%"/>
<path d="M${path}" fill="none" stroke="white" stroke-width="${STROKE}"/></svg>`;
await sharp(Buffer.from(svg))
  .removeAlpha()
  .greyscale()
  .png({ compressionLevel: 9 })
  .toFile(new URL('../assets/infinity.png', import.meta.url).pathname);
