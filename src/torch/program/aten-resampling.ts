/**
 * Padding, and pictures made larger or smaller.
 */
import { fromNumbers } from '../../core/tensor.ts';
import type { Translation, TranslationTable } from './aten.ts';
import type { Call } from './call.ts';

/** PyTorch lists pads from the last dim back, begin and end; ONNX all begins, then all ends. */
function onnxPads(c: Call, rank: number, name: string): readonly number[] {
  const pads = c.numbers(name, []);
  if (pads.length > 2 * rank) return c.fail(`${pads.length} pads are too many for ${rank} dims`);
  const begins = new Array<number>(rank).fill(0);
  const ends = new Array<number>(rank).fill(0);
  for (let i = 0; i < pads.length / 2; i++) {
    begins[rank - 1 - i] = pads[2 * i];
    ends[rank - 1 - i] = pads[2 * i + 1];
  }
  return [...begins, ...ends];
}

const MODES: Readonly<Record<string, string>> = {
  constant: 'constant',
  reflect: 'reflect',
  replicate: 'edge',
  circular: 'wrap',
};

function pad(c: Call, mode: string, name = 'pad'): string {
  const x = c.tensor('self');
  if (!Object.hasOwn(MODES, mode)) return c.fail(`mode ${mode} is not translated`);
  const pads = c.ints(onnxPads(c, c.rank(x), name));
  if (mode !== 'constant') return c.node('Pad', [x, pads], { mode: MODES[mode] });
  return c.node('Pad', [x, pads, c.scalar(c.number('value', 0), c.type(x).dtype)]);
}

interface Method {
  readonly mode: 'nearest' | 'linear' | 'cubic';
  /** Where the pixel that is read lies: PyTorch's nearest starts at the corner. */
  readonly exact?: boolean;
}

const upsample =
  ({ mode, exact = false }: Method): Translation =>
  (c) => {
    const x = c.tensor(c.has('input') ? 'input' : 'self');
    const from = c.type(x).shape.map((_, i) => c.staticDim(x, i));
    const to = outputSize(c, from);
    const attrs = {
      mode,
      coordinate_transformation_mode: coordinates(c, mode, exact),
      ...(mode === 'nearest' && { nearest_mode: exact ? 'round_prefer_ceil' : 'floor' }),
      cubic_coeff_a: -0.75,
    };
    const factors = c.has('scale_factors') ? c.numbers('scale_factors', []) : undefined;
    // By factors PyTorch maps pixels with them, even where they do not give whole sizes.
    if (factors)
      return c.node('Resize', [x, '', c.constant(fromNumbers('f32', [from.length], [1, 1, ...factors]))], attrs);
    return c.node('Resize', [x, '', '', c.ints(to)], attrs);
  };

function outputSize(c: Call, from: readonly number[]): readonly number[] {
  const size = c.has('output_size') ? c.numbers('output_size', []) : undefined;
  return [...from.slice(0, 2), ...(size ?? [])];
}

function coordinates(c: Call, mode: Method['mode'], exact: boolean): string {
  if (mode === 'nearest') return exact ? 'half_pixel' : 'asymmetric';
  return c.bool('align_corners', false) ? 'align_corners' : mode === 'cubic' ? 'half_pixel' : 'pytorch_half_pixel';
}

const nearest = upsample({ mode: 'nearest' });
const linear = upsample({ mode: 'linear' });

export const RESAMPLING: TranslationTable = {
  pad: (c) => pad(c, c.text('mode', 'constant')),
  constant_pad_nd: (c) => pad(c, 'constant'),
  reflection_pad1d: (c) => pad(c, 'reflect', 'padding'),
  reflection_pad2d: (c) => pad(c, 'reflect', 'padding'),
  replication_pad1d: (c) => pad(c, 'replicate', 'padding'),
  replication_pad2d: (c) => pad(c, 'replicate', 'padding'),
  upsample_nearest1d: nearest,
  upsample_nearest2d: nearest,
  upsample_nearest3d: nearest,
  _upsample_nearest_exact2d: upsample({ mode: 'nearest', exact: true }),
  upsample_linear1d: linear,
  upsample_bilinear2d: linear,
  upsample_trilinear3d: linear,
  upsample_bicubic2d: upsample({ mode: 'cubic' }),
  pixel_shuffle: (c) =>
    c.node('DepthToSpace', [c.tensor('self')], { blocksize: c.number('upscale_factor'), mode: 'CRD' }),
  pixel_unshuffle: (c) => {
    const x = c.tensor('self');
    const [, channels, height, width] = c.type(x).shape.map((_, i) => c.staticDim(x, i));
    const r = c.number('downscale_factor');
    // Channel, then place within the block: SpaceToDepth has them the other way round.
    const split = c.node('Reshape', [x, c.ints([-1, channels, height / r, r, width / r, r])]);
    const moved = c.node('Transpose', [split], { perm: [0, 1, 3, 5, 2, 4] });
    return c.node('Reshape', [moved, c.ints([-1, channels * r * r, height / r, width / r])]);
  },
};
