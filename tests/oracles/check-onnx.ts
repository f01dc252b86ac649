/**
 * Debian's onnx checks model files: structure, and types and shapes inferred strictly. Absent, tests say so and skip.
 */
import { spawnSync } from 'node:child_process';

const python = ['/usr/bin/python3', 'python3'].find(
  (command) => spawnSync(command, ['-c', 'import onnx']).status === 0,
);
export const MISSING_ONNX = python === undefined && 'python3 with onnx is not installed';

const SCRIPT = 'import onnx, sys\nfor f in sys.argv[1:]: onnx.checker.check_model(f, full_check=True)';

/** What it has against the files; '' where nothing. */
export function onnxComplaint(files: readonly string[]): string {
  if (python === undefined) throw new Error('no onnx here');
  const { stderr, status } = spawnSync(python, ['-c', SCRIPT, ...files], { encoding: 'utf8' });
  return status === 0 ? '' : stderr || 'it crashed';
}
