/**
 * The tests under other versions of Node, from npm's packages of Node's binaries: `npm run test:nodes [-- FILES …]`, after a build.
 * Linux on x64; each version is some 50 MB, kept in the system's folder for temporary files.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MAJORS = process.env.NODES?.split(',') ?? ['20', '22', '24'];
const PACKAGE = `node-${process.platform}-${process.arch}`;

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', ...options });
  if (error) throw error;
  return status;
}

/** The binary of a major version: fetched and unpacked once. */
function nodeBinary(major) {
  const folder = join(tmpdir(), `hotrod-node-${major}`);
  const binary = join(folder, 'package/bin/node');
  if (existsSync(binary)) return binary;
  mkdirSync(folder, { recursive: true });
  const packed = spawnSync('npm', ['pack', `${PACKAGE}@${major}`, '--silent'], { cwd: folder, encoding: 'utf8' });
  if (packed.status !== 0) throw new Error(`npm pack ${PACKAGE}@${major}: ${packed.stderr}`);
  if (run('tar', ['xzf', packed.stdout.trim().split('\n').at(-1)], { cwd: folder }) !== 0)
    throw new Error('tar failed');
  return binary;
}

const failed = [];
for (const major of MAJORS) {
  const node = nodeBinary(major);
  const { stdout } = spawnSync(node, ['--version'], { encoding: 'utf8' });
  console.log(`\n== Node ${stdout.trim()} ==`);
  // Commands that the tests start by name find this version too.
  const env = { ...process.env, PATH: `${join(node, '..')}:${process.env.PATH}` };
  if (run(node, ['node_modules/vitest/vitest.mjs', 'run', ...process.argv.slice(2)], { env }) !== 0)
    failed.push(stdout.trim());
}
if (failed.length > 0) console.error(`failed under ${failed.join(', ')}`);
process.exitCode = failed.length > 0 ? 1 : 0;
