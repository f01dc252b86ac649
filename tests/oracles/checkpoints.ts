/**
 * Has PyTorch write checkpoints through checkpoints.py, and says what they hold. Absent Debian's python3-torch, tests say so and skip.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('checkpoints.py', import.meta.url));

const python = ['/usr/bin/python3', 'python3'].find(
  (command) => spawnSync(command, ['-c', 'import torch']).status === 0,
);
export const MISSING_TORCH = python === undefined && 'python3 with torch is not installed';

export interface WrittenTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Base64 of the elements, little-endian, in row-major order. */
  readonly data: string;
}

/** Writes zip.pth, legacy.pth, nested.pth and wrapped.pth into the folder; all hold the tensors that come back. */
export function writeCheckpoints(folder: string): Readonly<Record<string, WrittenTensor>> {
  if (python === undefined) throw new Error('no PyTorch here');
  const { stdout, stderr, status } = spawnSync(python, [SCRIPT, folder], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}
