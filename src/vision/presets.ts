/**
 * Preprocessing by name: one row for each convention that trained networks were fed with.
 */
import type { Preprocess } from './preprocess.ts';

export interface Preset {
  /** For `--help`. */
  readonly summary: string;
  readonly steps: Preprocess;
}

const IMAGENET_MEAN = [0.485, 0.456, 0.406];
const IMAGENET_STD = [0.229, 0.224, 0.225];

export const PRESETS = {
  imagenet: {
    summary: 'torchvision: short side 256, centre 224x224, RGB, ImageNet mean and deviation',
    steps: {
      resize: { to: { kind: 'short-side', size: 256 }, filter: { kernel: 'bilinear', antialias: true } },
      crop: { width: 224, height: 224 },
      order: 'rgb',
      scale: 1 / 255,
      mean: IMAGENET_MEAN,
      std: IMAGENET_STD,
      layout: 'nchw',
      dtype: 'f32',
    },
  },
  // Channels come as OpenCV decodes them and are never swapped, so the mean of red meets blue: the answers it is compared with did so too.
  tutorial: {
    summary:
      'OpenCV and PyTorch: short side 224 in float32 without antialias, no crop, BGR with the mean and deviation of RGB',
    steps: {
      resize: { to: { kind: 'short-side', size: 224 }, filter: { kernel: 'bilinear', antialias: false }, of: 'values' },
      order: 'bgr',
      scale: 1 / 255,
      mean: IMAGENET_MEAN,
      std: IMAGENET_STD,
      layout: 'nchw',
      dtype: 'f32',
    },
  },
  squeezenet: {
    summary: 'Caffe: exactly 224x224, BGR, 0 to 255 minus the mean (104, 117, 123)',
    steps: {
      resize: { to: { kind: 'exact', width: 224, height: 224 }, filter: { kernel: 'lanczos', antialias: true } },
      order: 'bgr',
      scale: 1,
      mean: [104, 117, 123],
      std: [1],
      layout: 'nchw',
      dtype: 'f32',
    },
  },
  grey: {
    summary: 'one channel, 224x224, 0 to 1',
    steps: {
      resize: { to: { kind: 'exact', width: 224, height: 224 }, filter: { kernel: 'bilinear', antialias: true } },
      order: 'grey',
      scale: 1 / 255,
      mean: [0],
      std: [1],
      layout: 'nchw',
      dtype: 'f32',
    },
  },
} as const satisfies Readonly<Record<string, Preset>>;

export type PresetName = keyof typeof PRESETS;
