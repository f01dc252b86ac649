/**
 * The built command line as a user calls it: a process of its own, its exit code, and what it wrote where.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));
export const CLI = join(ROOT, 'dist/cli/main.js');

export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `hotrod ARGS`. `fileLimitKiB` lets no file grow beyond that, as a full disk does. */
export function hotrod(
  args: readonly string[],
  options: { cwd?: string; fileLimitKiB?: number; env?: Readonly<Record<string, string>> } = {},
): CliResult {
  if (!existsSync(CLI)) throw new Error('the command line is not built: npm run build');
  const { fileLimitKiB } = options;
  const [command, all] =
    fileLimitKiB === undefined
      ? [process.execPath, [CLI, ...args]]
      : ['bash', ['-c', `trap '' XFSZ; ulimit -f ${fileLimitKiB}; exec "$0" "$@"`, process.execPath, CLI, ...args]];
  const { DEBUG: _, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync(command, all, {
    encoding: 'utf8',
    env: { ...env, NO_COLOR: '1', ...options.env },
    maxBuffer: 1 << 28,
    ...(options.cwd !== undefined && { cwd: options.cwd }),
  });
  return { status, stdout, stderr };
}

/** Runs a command that must succeed with `--json`; its object. */
export function hotrodJson<T = Record<string, unknown>>(args: readonly string[]): T {
  const { status, stdout, stderr } = hotrod([...args, '--json']);
  if (status !== 0) throw new Error(`hotrod ${args.join(' ')} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** A folder that is gone after the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
