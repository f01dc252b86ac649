// Latency of Hotrod's targets against onnxruntime-node and onnxruntime-web, model by model, in turn, on the same inputs and threads.
//
//     npm run bench:peers -- [--threads 1,2] [--seconds 3] [--targets x64,wasm] [--zoo ../shared/zoo] [--out FILE] [MODEL …]
//
// MODEL is an architecture of the zoo folder, or `demo`; all that are there by default. Prints a table a thread count and writes
// FILE.md and FILE.svg. onnxruntime-web fixes its threads when it starts, so each thread count is measured in a process of its own.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { barChartSvg } from '../dist/cli/chart.js';
import { measureInTurn } from '../dist/cli/measure.js';
import { openOnnxRuntime } from '../dist/cli/peers.js';
import { statistics } from '../dist/cli/statistics.js';
import { sha256Beside } from '../dist/host/sha256.js';
import { readSharedFile } from '../dist/host/shared-file.js';
import { build, parseEngine, serializeEngine } from '../dist/index.js';
import { chooseTarget } from '../dist/targets/all.js';

const DEMO = fileURLToPath(new URL('../node_modules/detypify-service/train/model.onnx', import.meta.url));
const DTYPE = { f32: 'f32', ids: 'i64', mask: 'i64', i64: 'i64' };

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: 'string', default: '1,2' },
    seconds: { type: 'string', default: '3' },
    targets: { type: 'string', default: 'x64,wasm' },
    zoo: { type: 'string', default: '../shared/zoo' },
    out: { type: 'string' },
    child: { type: 'boolean', default: false },
  },
});

/** Everything needed to run one model: its file (weights beside it) and its inputs as tensors. */
async function openModel(name, folder) {
  if (name === 'demo') {
    const data = Float32Array.from({ length: 224 * 224 }, (_, i) => (i % 31 === 0 ? 1 : 0));
    return { file: DEMO, inputs: new Map([['x', { dtype: 'f32', shape: [1, 1, 224, 224], data }]]) };
  }
  const { makeWeights, makeInputs } = await import(pathToFileURL(resolve(flags.zoo, 'weights.mjs')).href);
  const file = join(folder, `${name}.onnx`);
  writeFileSync(file, readFileSync(join(flags.zoo, `${name}.onnx`)));
  const inputs = Object.entries(makeInputs(makeWeights(flags.zoo, name, folder)));
  return {
    file,
    inputs: new Map(inputs.map(([k, v]) => [k, { dtype: DTYPE[v.kind] ?? 'i64', shape: v.shape, data: v.data }])),
  };
}

async function openHotrod(model, target, threads) {
  const folder = resolve(model.file, '..');
  const shapes = Object.fromEntries([...model.inputs].map(([name, t]) => [name, t.shape]));
  const openExternal = (location) => readFileSync(join(folder, location));
  const report = await build(readFileSync(model.file), { target, shapes, openExternal });
  const file = join(folder, `${target}.engine`);
  writeFileSync(file, serializeEngine(report.engine));
  const bytes = readSharedFile(file);
  rmSync(file);
  const { device } = await chooseTarget(target);
  // As loadEngine does: hashes are taken while the device works.
  const checks = [];
  const start = performance.now();
  const engine = await parseEngine(bytes, { sha256: sha256Beside, later: (check) => checks.push(check()) });
  const open = await device.open(engine, { threads, onWarning: () => {} });
  await Promise.all(checks);
  const context = open.createContext();
  const loadMs = performance.now() - start;
  return {
    name: `hotrod ${target}`,
    inputs: engine.inputs,
    threads,
    setInputs: (values) => {
      for (const [i, b] of engine.inputs.entries()) context.inputs[i].set(values.get(b.name).data);
    },
    run: () => context.execute(),
    dispose: () => open.dispose(),
    facts: { buildMs: report.buildMs, stages: report.stages, fileBytes: bytes.length, loadMs },
  };
}

async function openWeb(model, inputs, threads) {
  const ort = await import('onnxruntime-web');
  ort.env.wasm.numThreads = threads;
  const bin = model.file.replace(/\.onnx$/, '.bin');
  const isZoo = model.file !== DEMO;
  const session = await ort.InferenceSession.create(readFileSync(model.file), {
    executionProviders: ['wasm'],
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    ...(isZoo && { externalData: [{ path: bin.split('/').at(-1), data: readFileSync(bin) }] }),
  });
  let feeds;
  return {
    name: 'onnxruntime-web',
    inputs,
    threads,
    setInputs: (values) => {
      const type = (t) => (t.dtype === 'f32' ? 'float32' : 'int64');
      feeds = Object.fromEntries([...values].map(([name, t]) => [name, new ort.Tensor(type(t), t.data, t.shape)]));
    },
    run: async () => {
      await session.run(feeds);
    },
    dispose: () => session.release(),
  };
}

/** One model at one thread count: medians by runner, and what Hotrod's build was. A runner that cannot is left out with its reason. */
async function measureModel(name, threads, folder) {
  const model = await openModel(name, folder);
  const runners = [];
  const absent = {};
  const tryOpen = async (label, open) => {
    try {
      runners.push(await open());
    } catch (error) {
      absent[label] = String(error.message).split('\n')[0];
    }
  };
  for (const target of flags.targets.split(','))
    await tryOpen(`hotrod ${target}`, () => openHotrod(model, target, threads));
  const types = [...model.inputs].map(([input, t]) => ({ name: input, dtype: t.dtype, shape: t.shape }));
  await tryOpen('onnxruntime-node', async () => ({
    ...(await openOnnxRuntime(model.file, types, threads)),
    name: 'onnxruntime-node',
  }));
  await tryOpen('onnxruntime-web', () => openWeb(model, types, threads));
  for (const runner of runners) runner.setInputs(model.inputs);
  const samples = await measureInTurn(runners, { warmupMs: 300, durationMs: Number(flags.seconds) * 1000 });
  const medians = Object.fromEntries(runners.map((r, i) => [r.name, statistics(samples[i]).median]));
  const facts = runners.find((r) => r.facts)?.facts;
  for (const runner of runners) await runner.dispose();
  return { model: name, threads, medians, absent, facts };
}

async function child() {
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-peers-'));
  try {
    for (const name of positionals) {
      process.stdout.write(`${JSON.stringify(await measureModel(name, Number(flags.threads), folder))}\n`);
      rmSync(join(folder, `${name}.bin`), { force: true });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  // onnxruntime-web's workers would keep the process alive.
  process.exit(0);
}

function measureAll() {
  const zoo = readdirSync(flags.zoo)
    .filter((f) => f.endsWith('.onnx'))
    .map((f) => f.slice(0, -5));
  const names = positionals.length > 0 ? positionals : ['demo', ...zoo];
  return flags.threads.split(',').flatMap((threads) =>
    names.map((name) => {
      const args = [
        '--child',
        '--threads',
        threads,
        '--seconds',
        flags.seconds,
        '--targets',
        flags.targets,
        '--zoo',
        flags.zoo,
        name,
      ];
      const text = execFileSync(process.execPath, [fileURLToPath(import.meta.url), ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const row = JSON.parse(text);
      console.error(
        `${name} ${threads}: ${Object.entries(row.medians)
          .map(([k, v]) => `${k} ${v.toFixed(2)}`)
          .join(', ')}`,
      );
      return row;
    }),
  );
}

const geometricMean = (xs) => Math.exp(xs.reduce((s, x) => s + Math.log(x), 0) / xs.length);

function table(rows) {
  const ours = flags.targets.split(',').map((t) => `hotrod ${t}`);
  const peers = ['onnxruntime-node', 'onnxruntime-web'];
  const ratios = ours.flatMap((o) => peers.map((p) => [o, p]));
  const cell = (x) => (x === undefined ? '–' : x.toFixed(2));
  const head = [
    'model',
    'threads',
    ...ours,
    ...peers,
    ...ratios.map(([o, p]) => `${o} / ${p}`),
    'build ms',
    'engine MiB',
    'load ms',
  ];
  const lines = rows.map(({ model, threads, medians, facts }) => [
    model,
    threads,
    ...[...ours, ...peers].map((r) => cell(medians[r])),
    ...ratios.map(([o, p]) => cell(medians[o] / medians[p] || undefined)),
    facts ? facts.buildMs.toFixed(0) : '–',
    facts ? (facts.fileBytes / 2 ** 20).toFixed(1) : '–',
    facts ? facts.loadMs.toFixed(0) : '–',
  ]);
  const means = ratios.map(([o, p]) => {
    const all = rows.map((r) => r.medians[o] / r.medians[p]).filter(Number.isFinite);
    return `geometric mean of ${o} / ${p} over ${all.length}: ${all.length > 0 ? geometricMean(all).toFixed(3) : '–'}`;
  });
  const markdown = [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
  const missing = rows.flatMap((r) =>
    Object.entries(r.absent).map(([who, why]) => `${who} does not run ${r.model}: ${why}`),
  );
  return [markdown, '', ...means, ...missing].join('\n');
}

if (flags.child) await child();
else {
  const rows = measureAll();
  const text = table(rows);
  console.log(text);
  if (flags.out) {
    writeFileSync(`${flags.out}.md`, `${text}\n`);
    const bars = rows.flatMap((r) =>
      Object.entries(r.medians).map(([who, value]) => ({
        name: `${r.model}, ${r.threads} threads, ${who}`,
        value,
        ours: who.startsWith('hotrod'),
      })),
    );
    writeFileSync(`${flags.out}.svg`, await barChartSvg('Median latency of one inference', bars));
  }
}
