/**
 * The spine: a model in, an engine out. One call a room, in order; everything else hangs on this file.
 *
 *     bytes -> readOnnx -> bindShapes -> runPipeline -> lower -> schedule (choose tactics, pack weights, plan memory) -> emit -> Engine
 *
 * Building is deterministic: the same model, options and machine features give the same engine.
 */
import type { BuildOptions, BuildReport } from './build-options.ts';
import { ModelError } from './core/errors.ts';
import { debugLevel } from './core/knobs.ts';
import { VERSION } from './core/version.ts';
import type { Engine } from './engine/engine.ts';
import { bindShapes } from './graph/bind.ts';
import type { Graph } from './graph/ir.ts';
import { now, yieldToHost } from './host/clock.ts';
import { checkLowerable } from './lower/fuse.ts';
import { lower } from './lower/lower.ts';
import { schedule } from './lower/schedule.ts';
import { verifyKernel } from './loop/verify.ts';
import { readOnnx } from './onnx/read.ts';
import { OPS } from './ops/all.ts';
import type { Op } from './ops/op.ts';
import { runPipeline } from './passes/pipeline.ts';
import { chooseTactic } from './tune/choose.ts';
import { chooseTarget } from './targets/all.ts';
import { graphEngine } from './targets/reference/engine.ts';
import type { Target } from './targets/target.ts';

/** The stages of a build with their usual share of its time, for the progress bar. */
const STAGES = { read: 0.1, infer: 0.05, passes: 0.25, lower: 0.1, schedule: 0.35, emit: 0.15 } as const;
type StageName = keyof typeof STAGES;

/**
 * Builds an engine from ONNX bytes, or from a graph made with `graphBuilder`.
 * Throws ModelError where the model, the options or the machine do not allow it, `aborted` if the signal fires; Bug if Hotrod is wrong.
 */
export async function build(model: Uint8Array | Graph, options: BuildOptions = {}): Promise<BuildReport> {
  const run = new BuildRun(options);
  const target = await chooseTarget(options.target ?? 'auto');
  checkPrecision(target, options);
  const ops = options.ops ? new Map([...OPS, ...options.ops.map((op) => [op.key, op] as const)]) : OPS;
  const { onWarning } = run;

  const read = await run.stage('read', () => (model instanceof Uint8Array ? readModel(model, options, ops, onWarning) : model));
  const bound = await run.stage('infer', () => bindShapes(read, ops, options.shapes ?? {}, onWarning));
  const graph = await run.stage('passes', () =>
    runPipeline(bound, { ops, computes: target.computes, onWarning }, { verify: options.verify ?? false }),
  );
  const engine = target.templates ? await buildProgram(run, graph, target, ops, options) : graphEngine(graph, VERSION);
  return { engine, stages: run.stages, buildMs: run.stages.reduce((sum, s) => sum + s.ms, 0), warnings: run.warnings };
}

function readModel(bytes: Uint8Array, options: BuildOptions, ops: ReadonlyMap<string, Op>, onWarning: (message: string) => void): Graph {
  const { openExternal } = options;
  return readOnnx(bytes, { ops, onWarning, ...(openExternal && { openExternal }) });
}

async function buildProgram(run: BuildRun, graph: Graph, target: Target, ops: ReadonlyMap<string, Op>, options: BuildOptions): Promise<Engine> {
  const features = target.features();
  const lowered = await run.stage('lower', () => {
    checkLowerable(graph, ops, target.name);
    const result = lower(graph, ops);
    if (options.verify) for (const step of result.steps) verifyKernel(step.kernel);
    return result;
  });
  const program = await run.stage('schedule', () =>
    schedule(lowered, target, (kernel, facts) => chooseTactic(kernel, facts, target.templates ?? [], features)),
  );
  checkWorkspace(program.arenaBytes, options.workspaceBytes);
  const code = await run.stage('emit', () => target.emit?.(program) ?? []);
  return { name: graph.name, target: target.name, builtBy: VERSION, machine: features, precision: 'fp32', ...program, code };
}

function checkPrecision(target: Target, { precision = 'fp32' }: BuildOptions): void {
  if (precision === 'fp32' || precision === 'auto') return;
  throw new ModelError('option-invalid', `precision ${precision} is not available on target ${target.name}, which computes in fp32`, {
    hint: 'leave --precision out, or say fp32 or auto',
  });
}

function checkWorkspace(arenaBytes: number, limit: number | undefined): void {
  if (limit === undefined || arenaBytes <= limit) return;
  throw new ModelError('option-invalid', `the engine needs an arena of ${arenaBytes} bytes, the workspace limit is ${limit}`, {
    hint: `allow a workspace of ${Math.ceil(arenaBytes / 2 ** 20)}MiB, or build for smaller input shapes`,
  });
}

/** Times stages, reports progress, lets the host breathe between stages and stops when the caller aborts. */
class BuildRun {
  readonly stages: { name: string; ms: number }[] = [];
  readonly warnings: string[] = [];
  readonly onWarning: (message: string) => void;
  readonly #options: BuildOptions;
  #done = 0;

  constructor(options: BuildOptions) {
    this.#options = options;
    this.onWarning = (message) => {
      this.warnings.push(message);
      options.onWarning?.(message);
    };
  }

  async stage<T>(name: StageName, work: () => T): Promise<T> {
    const { signal, onProgress } = this.#options;
    onProgress?.({ stage: name, fraction: this.#done });
    await yieldToHost();
    if (signal?.aborted) throw new ModelError('aborted', `the build was aborted before stage ${name}`, { cause: signal.reason });
    const start = now();
    const result = work();
    const ms = (now() - start) / 1e6;
    this.stages.push({ name, ms });
    this.#done = Math.min(1, this.#done + STAGES[name]);
    onProgress?.({ stage: name, fraction: this.#done });
    if (debugLevel() >= 1) console.error(`[build] ${name} ${ms.toFixed(1)} ms`);
    return result;
  }
}

