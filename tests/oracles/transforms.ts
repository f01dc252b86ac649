/**
 * Asks torchvision.transforms through transforms.py. Absent Debian's python3-torchvision and Pillow, tests say so and skip.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Tensor } from '../../src/core/tensor.ts';
import type { Picture } from '../../src/vision/picture.ts';

const SCRIPT = fileURLToPath(new URL('transforms.py', import.meta.url));

const python = ['/usr/bin/python3', 'python3'].find(
  (command) => spawnSync(command, ['-c', 'import torchvision, PIL']).status === 0,
);
export const MISSING_TRANSFORMS = python === undefined && 'python3 with torchvision and PIL is not installed';

export interface TransformRequest {
  /** A picture resized as a picture; BGR resized as a tensor without antialias; a tensor resized with it. */
  readonly steps: 'imagenet' | 'tutorial' | 'tensor';
  readonly picture: Picture;
  readonly size: number;
  readonly crop: number;
}

export function askTransforms(requests: readonly TransformRequest[]): Tensor[] {
  if (python === undefined) throw new Error('no torchvision here');
  const lines = requests.map(({ picture: { width, height, rgb }, ...rest }) =>
    JSON.stringify({ ...rest, width, height, rgb: Buffer.from(rgb).toString('base64') }),
  );
  const options = { input: `${lines.join('\n')}\n`, maxBuffer: 1 << 30, encoding: 'utf8' } as const;
  const { stdout, stderr, status } = spawnSync(python, [SCRIPT], options);
  if (status !== 0) throw new Error(stderr);
  return stdout
    .trim()
    .split('\n')
    .map((line): Tensor => {
      const { shape, data } = JSON.parse(line);
      return { dtype: 'f32', shape, data: new Float32Array(new Uint8Array(Buffer.from(data, 'base64')).buffer) };
    });
}
