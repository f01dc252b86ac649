/**
 * Asks torchvision through networks.py for checkpoints and answers. Absent Debian's python3-torchvision, tests say so and skip.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Tensor } from '../../src/core/tensor.ts';

const SCRIPT = fileURLToPath(new URL('networks.py', import.meta.url));
const PYTHONS = ['/usr/bin/python3', 'python3'];

const python = PYTHONS.find((command) => spawnSync(command, ['-c', 'import torchvision']).status === 0);
export const MISSING_TORCHVISION = python === undefined && 'python3 with torchvision is not installed';

export interface NetRequest {
  readonly arch: string;
  /** Height and width of the picture. */
  readonly size: number;
  readonly seed: number;
  /** Where the state dict goes. */
  readonly file: string;
  readonly legacy?: boolean;
  readonly classes?: number;
}
export interface NetAnswer {
  readonly input: Tensor;
  readonly output: Tensor;
}

interface Packed {
  readonly shape: number[];
  readonly data: string;
}

export function askTorchvision(request: NetRequest): NetAnswer {
  if (python === undefined) throw new Error('no torchvision here');
  const input = `${JSON.stringify(request)}\n`;
  const { stdout, stderr, status } = spawnSync(python, [SCRIPT], { input, maxBuffer: 1 << 30, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  const answer = JSON.parse(stdout) as Record<'input' | 'output', Packed>;
  return { input: unpack(answer.input), output: unpack(answer.output) };
}

const unpack = ({ shape, data }: Packed): Tensor => ({
  dtype: 'f32',
  shape,
  data: new Float32Array(new Uint8Array(Buffer.from(data, 'base64')).buffer),
});
