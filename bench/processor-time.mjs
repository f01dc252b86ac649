// Processor time of an inference on one thread, Hotrod's x64 beside onnxruntime-node, in turn in one process: what other programs on the
// machine disturb least, so figures hold where a clock's do not. Prints the least of each in milliseconds, their ratio, and how many rounds.
//
//     npm run build && node bench/processor-time.mjs [--zoo ../shared/zoo] [--seconds 2.5] [MODEL …]
//
// MODEL is an architecture of the zoo folder; all that are there by default.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import ort from 'onnxruntime-node';
import { build } from '../dist/index.js';
import { chooseTarget } from '../dist/targets/all.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { zoo: { type: 'string', default: '../shared/zoo' }, seconds: { type: 'string', default: '2.5' } },
});
const { makeWeights, makeInputs } = await import(pathToFileURL(resolve(flags.zoo, 'weights.mjs')).href);
const all = readdirSync(flags.zoo).filter((file) => file.endsWith('.onnx'));
const names = positionals.length > 0 ? positionals : all.map((file) => file.slice(0, -'.onnx'.length));
const target = await chooseTarget('x64');
const logs = [];

for (const name of names) {
  const folder = mkdtempSync(join(tmpdir(), 'processor-time-'));
  const file = join(folder, `${name}.onnx`);
  writeFileSync(file, readFileSync(join(flags.zoo, `${name}.onnx`)));
  const inputs = Object.entries(makeInputs(makeWeights(flags.zoo, name, folder))).map(([key, { data, shape }]) => [
    key,
    data instanceof Float32Array ? data : BigInt64Array.from(data, BigInt),
    shape,
  ]);
  const { engine } = await build(readFileSync(file), {
    target: 'x64',
    shapes: Object.fromEntries(inputs.map(([key, , shape]) => [key, shape])),
    openExternal: (location) => readFileSync(join(folder, location)),
  });
  const opened = await target.device.open(engine, { threads: 1, onWarning: () => {} });
  const context = opened.createContext();
  for (const [key, data] of inputs) context.inputs[engine.inputs.findIndex((x) => x.name === key)].set(data);
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const feeds = Object.fromEntries(
    inputs.map(([key, data, shape]) => [
      key,
      new ort.Tensor(data instanceof Float32Array ? 'float32' : 'int64', data, shape),
    ]),
  );
  let [own, other, rounds] = [Infinity, Infinity, 0];
  for (const end = performance.now() + 1000 * Number(flags.seconds); performance.now() < end || rounds < 6; rounds++) {
    own = Math.min(own, await processorTime(() => context.execute()));
    other = Math.min(other, await processorTime(() => session.run(feeds)));
  }
  logs.push(Math.log(own / other));
  console.log(`| ${name} | ${own.toFixed(2)} | ${other.toFixed(2)} | ${(own / other).toFixed(2)} | ${rounds} |`);
  opened.dispose();
  await session.release();
  rmSync(folder, { recursive: true });
}
console.log(`geometric mean ${Math.exp(logs.reduce((sum, x) => sum + x, 0) / logs.length).toFixed(3)}`);
process.exit(0);

/** Milliseconds. */
async function processorTime(run) {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
