// Quantised models against the same in f32, here and in onnxruntime-node, in turn in one process on the same input.
//
//     npm run build && node bench/int8.mjs [--threads 1] [--seconds 4] [--target x64] FOLDER …
//
// A folder NAME holds NAME.onnx (f32, weights beside it), NAME.int8.onnx (bench/quantize.py makes it) and input.f32, the elements of the
// only input. Prints milliseconds: the least and the median of the clock, and the median of the processor's time, which other programs
// on the machine disturb less (with one thread; with more, waiting threads spin).
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import ort from 'onnxruntime-node';
import { build } from '../dist/index.js';
import { chooseTarget } from '../dist/targets/all.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '4' },
    target: { type: 'string', default: 'x64' },
  },
});
const threads = Number(flags.threads);
const ROUNDS = 8;

async function openHotrod(file, folder, data) {
  const openExternal = (location) => readFileSync(join(folder, location));
  const { engine } = await build(readFileSync(file), { target: flags.target, openExternal });
  const { device } = await chooseTarget(flags.target);
  const open = await device.open(engine, { threads, onWarning: () => {} });
  const context = open.createContext();
  context.inputs[0].set(data);
  return { run: () => context.execute(), shape: engine.inputs[0].shape };
}

async function openOnnxRuntime(file, data, shape) {
  const options = { intraOpNumThreads: threads, interOpNumThreads: 1, logSeverityLevel: 3 };
  const session = await ort.InferenceSession.create(file, options);
  const feeds = { [session.inputNames[0]]: new ort.Tensor('float32', data, shape) };
  return { run: () => session.run(feeds) };
}

async function measure(runners) {
  for (const { run } of runners) for (let i = 0; i < 3; i++) await run();
  for (let round = 0; round < ROUNDS; round++) {
    for (const { run, clock, processor } of runners) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const end = performance.now() + (Number(flags.seconds) * 1000) / ROUNDS;
      while (performance.now() < end) {
        const before = process.cpuUsage();
        const start = performance.now();
        await run();
        clock.push(performance.now() - start);
        const { user, system } = process.cpuUsage(before);
        processor.push((user + system) / 1000);
      }
    }
  }
}

const sorted = (values) => values.toSorted((a, b) => a - b);
const median = (values) => sorted(values)[values.length >> 1];

for (const folder of positionals) {
  const name = basename(folder);
  const bytes = readFileSync(join(folder, 'input.f32'));
  const data = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const runners = [];
  for (const [kind, file] of [
    ['f32', `${name}.onnx`],
    ['int8', `${name}.int8.onnx`],
  ]) {
    const ours = await openHotrod(join(folder, file), folder, data);
    const theirs = await openOnnxRuntime(join(folder, file), data, ours.shape);
    runners.push({ what: `hotrod ${flags.target} ${kind}`, run: ours.run, clock: [], processor: [] });
    runners.push({ what: `onnxruntime ${kind}`, run: theirs.run, clock: [], processor: [] });
  }
  await measure(runners);
  console.log(`${name}, ${threads} thread(s): least, median, median of the processor's time`);
  for (const { what, clock, processor } of runners) {
    const figures = [sorted(clock)[0], median(clock), median(processor)].map((ms) => ms.toFixed(2).padStart(8));
    console.log(`  ${what.padEnd(20)}${figures.join('')}`);
  }
}
process.exit(0);
