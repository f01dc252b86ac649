/**
 * Asks Pillow and OpenCV through pictures.py: requests in, answers out, all in one process. Undefined where Debian's Python, Pillow
 * or OpenCV is not installed; tests then say so and skip.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Picture } from '../../src/vision/picture.ts';

const SCRIPT = fileURLToPath(new URL('pictures.py', import.meta.url));
const PYTHONS = ['/usr/bin/python3', 'python3'];

const python = PYTHONS.find((command) => spawnSync(command, ['-c', 'import cv2, PIL']).status === 0);
export const MISSING_PICTURE_ORACLE = python === undefined && 'python3 with PIL and cv2 is not installed';

export interface ResizeRequest {
  readonly library: 'pil' | 'cv2';
  readonly kernel: string;
  readonly picture: Picture;
  readonly to: readonly [width: number, height: number];
}

export function oracleResize(requests: readonly ResizeRequest[]): Uint8Array[] {
  const answers = ask(
    requests.map(({ library, kernel, picture, to }) => ({
      do: 'resize',
      library,
      kernel,
      width: picture.width,
      height: picture.height,
      to,
      rgb: Buffer.from(picture.rgb).toString('base64'),
    })),
  );
  return answers.map(({ rgb }) => Buffer.from(rgb, 'base64'));
}

export function oracleDecode(files: readonly Uint8Array[]): Picture[] {
  const answers = ask(files.map((file) => ({ do: 'decode', file: Buffer.from(file).toString('base64') })));
  return answers.map(({ width, height, rgb }) => ({ width, height, rgb: Buffer.from(rgb, 'base64') }));
}

interface Answer {
  readonly width: number;
  readonly height: number;
  readonly rgb: string;
}

function ask(requests: readonly object[]): Answer[] {
  if (python === undefined) throw new Error('no Python here');
  const input = requests.map((request) => `${JSON.stringify(request)}\n`).join('');
  const { stdout, stderr, status } = spawnSync(python, [SCRIPT], { input, maxBuffer: 1 << 30, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Answer);
}
