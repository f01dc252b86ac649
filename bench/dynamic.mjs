// What open sizes cost: engines with a shape profile against engines of the profile's usual shape, at that shape, in turn, in one process.
//
//     npm run build && node bench/dynamic.mjs [--targets x64,wasm] [--threads 1] [--rounds 15] [--runs 3] [--layers N] [NAME …]
//
// NAME is a row of CASES below; all by default. Models are of ../shared (those that are not there are left out), their inputs' dims
// opened in the ONNX file. Prints for each the best time of either and three ratios: of the best times, the median of the rounds' own,
// and, for busy machines, that of the sums of the steps' best times (one thread). A round runs one engine `runs` times and then the other,
// each round in the other order. --layers shows the N steps that lose most.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { build, parseEngine, serializeEngine } from '../dist/index.js';
import { ModelProtoSchema, TensorShapeProto_DimensionSchema } from '../dist/onnx/onnx_pb.js';
import { Shapes } from '../dist/runtime/shapes.js';
import { chooseTarget } from '../dist/targets/all.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    targets: { type: 'string', default: 'x64,wasm' },
    threads: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '15' },
    runs: { type: 'string', default: '3' },
    layers: { type: 'string', default: '0' },
    shared: { type: 'string', default: '../shared' },
  },
});

/** Batch, or height and width, of an input of planes. */
const batch = { dims: ['n', 3, 224, 224], min: [1, 3, 224, 224], opt: [1, 3, 224, 224], max: [8, 3, 224, 224] };
const sides = { dims: [1, 3, 'h', 'w'], min: [1, 3, 64, 64], opt: [1, 3, 224, 224], max: [1, 3, 320, 320] };
const sequence = { dims: ['n', 's'], min: [1, 1], opt: [1, 32], max: [1, 128] };
const words = { input_ids: sequence, attention_mask: sequence };
const CASES = {
  'resnet18-batch': { zoo: 'resnet18', inputs: { input: batch } },
  'resnet50-batch': { zoo: 'resnet50', inputs: { input: batch } },
  'mobilenet_v2-batch': { zoo: 'mobilenet_v2', inputs: { input: batch } },
  'resnet18-sides': { zoo: 'resnet18', inputs: { input: sides } },
  'mobilenet_v2-sides': { zoo: 'mobilenet_v2', inputs: { input: sides } },
  'squeezenet-batch': { real: 'SqueezeNet_fp16.onnx', inputs: { data_0: batch } },
  'squeezenet-sides': { real: 'SqueezeNet_fp16.onnx', inputs: { data_0: sides } },
  'bert-sequence': { zoo: 'bert', inputs: words },
};

/** The model with the dims of its inputs as a case names them; what it says of other values' shapes is left to inference. */
function opened(bytes, inputs) {
  const model = fromBinary(ModelProtoSchema, bytes);
  const dimOf = (size) =>
    create(TensorShapeProto_DimensionSchema, {
      value: typeof size === 'number' ? { case: 'dimValue', value: BigInt(size) } : { case: 'dimParam', value: size },
    });
  for (const input of model.graph.input) {
    const named = inputs[input.name];
    if (named) input.type.value.value.shape.dim = named.dims.map(dimOf);
  }
  model.graph.valueInfo = [];
  for (const output of model.graph.output) for (const dim of output.type.value.value.shape?.dim ?? []) dim.value = {};
  return toBinary(ModelProtoSchema, model);
}

async function openCase({ zoo, real, inputs }, folder) {
  if (real) return { bytes: opened(readFileSync(join(flags.shared, 'real', real)), inputs), openExternal: undefined };
  const { makeWeights } = await import(pathToFileURL(resolve(flags.shared, 'zoo/weights.mjs')).href);
  makeWeights(join(flags.shared, 'zoo'), zoo, folder);
  const bytes = opened(readFileSync(join(flags.shared, 'zoo', `${zoo}.onnx`)), inputs);
  return { bytes, openExternal: (location) => readFileSync(join(folder, location)) };
}

async function openEngine(model, options, target) {
  const { openExternal } = model;
  const { engine } = await build(model.bytes, { target, ...options, ...(openExternal && { openExternal }) });
  const parsed = await parseEngine(serializeEngine(engine));
  const { device } = await chooseTarget(target);
  const open = await device.open(parsed, { threads: Number(flags.threads), onWarning: () => {} });
  const context = open.createContext();
  if (context.sizes) new Shapes(parsed, context.sizes);
  for (const array of context.inputs)
    for (let i = 0; i < array.length; i++)
      array[i] = typeof array[i] === 'bigint' ? BigInt(i % 7 > 0) : ((i % 255) - 127) / 127;
  return { engine: parsed, context, dispose: () => open.dispose() };
}

function timed(context) {
  const start = performance.now();
  for (let i = 0; i < Number(flags.runs); i++) context.execute();
  return (performance.now() - start) / Number(flags.runs);
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** The least time of each step, in ms. */
function leastOf(engines) {
  const least = engines.map(({ engine }) => new Float64Array(engine.steps.length).fill(Number.POSITIVE_INFINITY));
  for (let round = 0; round < 20; round++) {
    engines.forEach(({ engine, context }, i) => {
      const ns = new Float64Array(engine.steps.length);
      context.profile(ns);
      ns.forEach((x, s) => {
        least[i][s] = Math.min(least[i][s], x / 1e6);
      });
    });
  }
  return least;
}

const tacticOf = ({ tactic: { template, params } }) =>
  `${template} ${Object.entries(params)
    .map(([k, v]) => `${k}=${v}`)
    .join(' ')}`;

const sum = (values) => values.reduce((total, x) => total + x, 0);

function printLayers(engines, least) {
  const [fixed, open] = engines.map(({ engine }, i) => engine.steps.map((step, s) => ({ step, ms: least[i][s] })));
  const byPlace = new Map(fixed.map((row) => [row.step.loc.join('+'), row]));
  const rows = open.map((row) => {
    const other = byPlace.get(row.step.loc.join('+'));
    return { row, other, lost: row.ms - (other?.ms ?? 0) };
  });
  for (const { row, other, lost } of rows.toSorted((a, b) => b.lost - a.lost).slice(0, Number(flags.layers))) {
    const was = other ? `${other.ms.toFixed(3)} ${tacticOf(other.step)}` : '-';
    console.log(
      `  +${lost.toFixed(3)} ms  ${row.ms.toFixed(3)} ${tacticOf(row.step)} | ${was} | ${row.step.loc.slice(0, 2).join('+')}`,
    );
  }
}

async function measure(name, target) {
  const row = CASES[name];
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-dynamic-'));
  const engines = [];
  try {
    const model = await openCase(row, folder);
    const shapes = Object.fromEntries(Object.entries(row.inputs).map(([input, { opt }]) => [input, opt]));
    const profile = Object.fromEntries(
      Object.entries(row.inputs).map(([k, { min, opt, max }]) => [k, { min, opt, max }]),
    );
    engines.push(await openEngine(model, { shapes }, target));
    engines.push(await openEngine(model, { profiles: [profile] }, target));
    const times = [[], []];
    for (const { context } of engines) timed(context);
    for (let round = 0; round < Number(flags.rounds); round++)
      for (const i of round % 2 === 0 ? [0, 1] : [1, 0]) times[i].push(timed(engines[i].context));
    const [fixed, open] = times.map((list) => Math.min(...list));
    const middle = median(times[1].map((ms, i) => ms / times[0][i]));
    const least = leastOf(engines);
    const ratio = (x) => x.toFixed(2);
    console.log(
      `${name.padEnd(20)} ${target.padEnd(5)} static ${fixed.toFixed(2)} ms, dynamic ${open.toFixed(2)} ms, ratio ${ratio(open / fixed)}, median of rounds ${ratio(middle)}, steps ${ratio(sum(least[1]) / sum(least[0]))}`,
    );
    if (Number(flags.layers) > 0) printLayers(engines, least);
  } finally {
    for (const each of engines) each.dispose();
    rmSync(folder, { recursive: true });
  }
}

const names = positionals.length > 0 ? positionals : Object.keys(CASES);
for (const name of names) {
  const { zoo, real } = CASES[name];
  const file = join(flags.shared, real ? `real/${real}` : `zoo/${zoo}.onnx`);
  if (!existsSync(file)) console.log(`${name}: ${file} is not there`);
  else for (const target of flags.targets.split(',')) await measure(name, target);
}
