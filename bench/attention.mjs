// Attention as one kernel beside the steps one by one, at the sizes of networks, in turn in one process.
//
//     npm run build && node bench/attention.mjs [--target x64] [--threads 1] [--rounds 40] [--all] [part of a row's name]
//
// The engine of the steps is built without the template `attend`, the other with a prediction that makes it win; --all opens one engine a row
// of its tactics. With one thread times are of the processor (getrusage), which others on the machine disturb least; else of the clock.
// Prints the least and the median in microseconds, and the memory of each engine.
import { parseArgs } from 'node:util';
import { contextBytes } from '../dist/engine/scratch.js';
import { graphBuilder } from '../dist/graph/build.js';
import { build } from '../dist/index.js';
import { OPS } from '../dist/ops/all.js';
import { nodeWriter } from '../dist/ops/node-writer.js';
import { attend, mergeHeads, splitHeads } from '../dist/ops/scaled-dot-product.js';
import { chooseTarget } from '../dist/targets/all.js';
import { attend as template } from '../dist/targets/cpu/attend.js';
import { tilesFor } from '../dist/targets/cpu/contract-templates.js';
import { CPU_TEMPLATES } from '../dist/targets/cpu/templates.js';

/** Batch, heads, queries, keys, size of a head, mask: an addend by key, or by head, query and key. */
const ROWS = [
  ['ViT-B, 197', 1, 12, 197, 197, 64],
  ['Swin, 64 windows of 49', 64, 3, 49, 49, 32, 'head'],
  ['Swin, 4 windows of 49', 4, 12, 49, 49, 32, 'head'],
  ['BERT, 32', 1, 4, 32, 32, 64, 'key'],
  ['BERT, 128', 1, 12, 128, 128, 64, 'key'],
  ['Segformer, 3136 by 49', 1, 1, 3136, 49, 32],
  ['cross, 512 by 77', 1, 8, 512, 77, 40],
  ['512', 1, 12, 512, 512, 64],
  ['1024', 1, 4, 1024, 1024, 64],
  ['2048', 1, 4, 2048, 2048, 64],
];

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    target: { type: 'string', default: 'x64' },
    threads: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '40' },
    all: { type: 'boolean', default: false },
  },
});
const threads = Number(flags.threads);
const target = await chooseTarget(flags.target);
const { predictNs } = template;

function graphOf([name, batch, heads, queries, keys, size, mask]) {
  const b = graphBuilder(name, OPS);
  const w = nodeWriter(b);
  const tokens = (x, length) => splitHeads(w, b.input(x, 'f32', [batch, length, heads * size]), heads);
  const [q, k, v] = [tokens('q', queries), tokens('k', keys), tokens('v', keys)];
  const shape = mask === 'head' ? [1, heads, queries, keys] : [batch, 1, 1, keys];
  const addends = mask ? [b.input('mask', 'f32', shape)] : [];
  b.output(mergeHeads(w, attend(w, { q, k, v, scale: size ** -0.5, addends }).y));
  return b.finish();
}

/** The steps, the attend that is predicted best, or the one with these parameters. */
async function open(graph, way) {
  const at = CPU_TEMPLATES.indexOf(template);
  if (way === 'steps') CPU_TEMPLATES.splice(at, 1);
  else
    template.predictNs = (kernel, params) =>
      predictNs(kernel, params) / (way === 'attend' || JSON.stringify(params) === JSON.stringify(way) ? 1e6 : 1);
  const { engine } = await build(graph, { target: flags.target });
  if (way === 'steps') CPU_TEMPLATES.splice(at, 0, template);
  template.predictNs = predictNs;
  const opened = await target.device.open(engine, { threads, onWarning: console.error });
  const context = opened.createContext();
  context.inputs.forEach((x, i) => {
    for (let j = 0; j < x.length; j++) x[j] = Math.sin(j * 0.37 + i);
  });
  return { way, engine, opened, context, times: [] };
}

function timed(context) {
  if (threads === 1) {
    const start = process.cpuUsage();
    context.execute();
    const { user, system } = process.cpuUsage(start);
    return user + system;
  }
  const start = process.hrtime.bigint();
  context.execute();
  return Number(process.hrtime.bigint() - start) / 1e3;
}

for (const row of ROWS.filter(([name]) => positionals.every((part) => name.includes(part)))) {
  const [name, batch, heads, queries, keys, size] = row;
  const blocks = keys > 512 ? [512, 2048] : [512];
  const tiles = tilesFor(target.features()).filter(({ lanes }) => size % lanes === 0);
  const all = tiles.flatMap((tile) => blocks.map((n) => ({ ...tile, keys: n })));
  const ways = [];
  for (const way of ['steps', ...(flags.all ? all : ['attend'])]) ways.push(await open(graphOf(row), way));
  for (const { context } of ways) for (let i = 0; i < 3; i++) context.execute();
  for (let i = 0; i < Number(flags.rounds); i++) for (const { context, times } of ways) times.push(timed(context));
  const flops = batch * heads * queries * keys * size * 4;
  for (const { way, engine, opened, times } of ways) {
    times.sort((x, y) => x - y);
    const tactics = engine.steps.map((s) => s.tactic.template).join(', ');
    const mebibytes = (contextBytes(engine, threads) / 2 ** 20).toFixed(2);
    const label = typeof way === 'string' ? `${way} (${tactics})` : JSON.stringify(way);
    console.log(
      `${name}: ${label}: least ${times[0].toFixed(0)} us, median ${times[times.length >> 1].toFixed(0)} us, ${(flops / times[0] / 1e3).toFixed(1)} GFLOP/s, ${mebibytes} MiB`,
    );
    opened.dispose();
  }
}
process.exit(0);
