/**
 * The two roofs of this machine as a target reaches them on one thread: multiply-adds of f32 in cache, and bytes to and from memory
 * (the roofline of Williams, Waterman and Patterson, 2009). Each is a small network that is built, run and timed like any other.
 */
import { build } from '../build.ts';
import { type Tensor, tensor } from '../core/tensor.ts';
import type { Engine, TargetName } from '../engine/engine.ts';
import { graphBuilder } from '../graph/build.ts';
import type { Graph } from '../graph/ir.ts';
import { OPS } from '../ops/all.ts';
import { openEngineRunner } from './engine-runner.ts';
import type { Terminal } from './terminal.ts';

/** Both in units a nanosecond, which are those of giga a second. */
export interface MachinePeak {
  readonly gflops: number;
  readonly gbPerSecond: number;
}

/** A product that stays in the second-level cache: [ROWS, DEPTH] by [DEPTH, COLUMNS]. */
const [ROWS, DEPTH, COLUMNS] = [192, 256, 384];
/** Elements of a vector that no cache holds, read once and written once. */
const STREAM = 2 ** 24;
/** The best of so many, at most so long. */
const ROUNDS = 200;
const MILLISECONDS = 150;

/** Undefined for targets that are no processor, and for `reference`, which runs no kernels. */
export async function measurePeak(target: TargetName, terminal: Terminal): Promise<MachinePeak | undefined> {
  if (target !== 'x64' && target !== 'wasm') return undefined;
  const [product, stream] = [productGraph(), streamGraph()];
  return {
    gflops: await best(product, target, terminal, ({ flops }) => flops),
    gbPerSecond: await best(stream, target, terminal, ({ bytesMoved }) => bytesMoved),
  };
}

function productGraph(): Graph {
  const b = graphBuilder('product', OPS);
  const x = b.input('x', 'f32', [ROWS, DEPTH]);
  const w = b.constant(tensor('f32', [DEPTH, COLUMNS], ones(DEPTH * COLUMNS)));
  b.output(b.node('MatMul', [x, w])[0]);
  return b.finish();
}

function streamGraph(): Graph {
  const b = graphBuilder('stream', OPS);
  b.output(b.node('Neg', [b.input('x', 'f32', [STREAM])])[0]);
  return b.finish();
}

const ones = (count: number): Float32Array => new Float32Array(count).fill(1);

/** The most of what the engine's one step does, a nanosecond. */
async function best(
  graph: Graph,
  target: TargetName,
  terminal: Terminal,
  amountOf: (step: Engine['steps'][number]) => number,
): Promise<number> {
  const { engine } = await build(graph, { target });
  const runner = await openEngineRunner(engine, { threads: 1 }, terminal);
  try {
    const inputs = runner.inputs.map(({ name, shape }): [string, Tensor] => {
      const count = shape.reduce<number>((n, dim) => n * Number(dim), 1);
      return [name, tensor('f32', shape.map(Number), ones(count))];
    });
    runner.setInputs(new Map(inputs));
    const amount = engine.steps.reduce((sum, step) => sum + amountOf(step), 0);
    let least = Number.POSITIVE_INFINITY;
    const until = performance.now() + MILLISECONDS;
    for (let round = 0; round < ROUNDS && (round < 3 || performance.now() < until); round++) {
      least = Math.min(
        least,
        runner.profile().reduce((ns, row) => ns + row.ns, 0),
      );
    }
    return amount / least;
  } finally {
    await runner.dispose();
  }
}
