// How long an engine file takes to be ready: fresh processes, one after the other, each of which times the import of hotrod/runtime and then
// `loadFile` with the first context. In turn without a cache of code (HOTROD_CACHE=off), with an empty one, and with what that left.
//
//     npm run build && node bench/load.mjs FILE.engine [--threads 2] [--rounds 10]
//
// Prints least and median in milliseconds: import, load by the clock, processor time of the main thread (Linux) and of all threads meanwhile,
// and the clock from the start of the process to ready.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '10' },
    child: { type: 'boolean', default: false },
  },
});
const [file] = positionals;
if (file === undefined || !existsSync(file)) throw new Error('which engine file? See the head of bench/load.mjs');

if (flags.child) await child();
else parent();

async function child() {
  const mainMs = () => {
    const stat = `/proc/self/task/${process.pid}/schedstat`;
    return existsSync(stat) ? Number(readFileSync(stat, 'utf8').split(' ')[0]) / 1e6 : Number.NaN;
  };
  const begin = performance.now();
  const { loadFile } = await import('../dist/runtime/runtime.js');
  const imported = performance.now();
  const [main, all] = [mainMs(), process.cpuUsage()];
  const engine = await loadFile(file, { threads: Number(flags.threads) });
  engine.createContext();
  const ready = performance.now();
  const { user, system } = process.cpuUsage(all);
  const times = [imported - begin, ready - imported, mainMs() - main, (user + system) / 1e3, ready];
  console.log(JSON.stringify(times));
  engine.dispose();
}

function parent() {
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-load-'));
  const run = (env) => {
    const args = [fileURLToPath(import.meta.url), file, '--child', '--threads', flags.threads];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      encoding: 'utf8',
      env: { ...process.env, XDG_CACHE_HOME: folder, ...env },
    });
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  };
  const WAYS = {
    'no cache': { HOTROD_CACHE: 'off' },
    'empty cache': {},
    'full cache': {},
  };
  const times = new Map(Object.keys(WAYS).map((way) => [way, []]));
  for (let round = 0; round < Number(flags.rounds); round++)
    for (const [way, env] of Object.entries(WAYS)) {
      if (way === 'empty cache') rmSync(folder, { recursive: true, force: true });
      times.get(way).push(run(env));
    }
  rmSync(folder, { recursive: true, force: true });
  const columns = ['import', 'load', 'main thread', 'all threads', 'from start'];
  console.log(['least (median), ms'.padEnd(20), ...columns.map((c) => c.padStart(16))].join(''));
  for (const [way, rows] of times) {
    const cells = columns.map((_, c) => {
      const sorted = rows.map((row) => row[c]).sort((a, b) => a - b);
      return `${sorted[0].toFixed(1)} (${sorted[sorted.length >> 1].toFixed(1)})`.padStart(16);
    });
    console.log(way.padEnd(20) + cells.join(''));
  }
}
