/**
 * The spine: a model in, an engine out. One call a room, in order; everything else hangs on this file.
 *
 *     bytes -read-> Graph -infer-> Graph -passes-> Graph -precision-> Graph -fuse-> clusters -lower-> kernels
 *           -attend-> kernels -plan-> arena -tune-> tactics -pack-> weights -schedule-> steps -emit-> Engine
 *
 * Building is deterministic: the same model, options and machine features give the same engine.
 */
import { chooseAttention } from './build-attention.ts';
import { lowerOpen, type OpenRoom } from './build-open.ts';
import type { BuildOptions, BuildReport } from './build-options.ts';
import { forOneSample, recallFrom, userFindings } from './build-precision.ts';
import { runnerOf, samplesOf } from './build-processor.ts';
import { BuildRun } from './build-run.ts';
import { ModelError } from './core/errors.ts';
import { VERSION } from './core/version.ts';
import type { Engine, Precision } from './engine/engine.ts';
import { bindShapes } from './graph/bind.ts';
import { fixInputs } from './graph/fix-inputs.ts';
import type { Graph } from './graph/ir.ts';
import { printGraph } from './graph/print.ts';
import { fixedShapes } from './graph/profiles.ts';
import { processorName } from './host/processor.ts';
import { kernelCost } from './loop/cost.ts';
import { verifyKernel } from './loop/verify.ts';
import { countable } from './lower/data-sizes.ts';
import { withoutHalves } from './lower/emulate-halves.ts';
import { checkLowerable, fuse } from './lower/fuse.ts';
import { fuseSteps } from './lower/fuse-steps.ts';
import { type LoweredGraph, lower } from './lower/lower.ts';
import { orderByDepth } from './lower/order.ts';
import { planMemory } from './lower/plan.ts';
import { printFusion, printLowered, printPlan, printTactics } from './lower/print.ts';
import { schedule } from './lower/schedule.ts';
import { packWeights } from './lower/weights.ts';
import { readOnnx } from './onnx/read.ts';
import { OPS } from './ops/all.ts';
import type { Op } from './ops/op.ts';
import { expandOps } from './passes/expand-ops.ts';
import { runPipeline } from './passes/pipeline.ts';
import { type Assignment, type AssignOptions, assignPrecision, choosePrecisions } from './precision/assign.ts';
import type { GraphRunner } from './precision/instrument.ts';
import { quantizeGraph } from './precision/quantize.ts';
import { chooseProcessor, chooseTarget } from './targets/all.ts';
import { graphEngine } from './targets/reference/engine.ts';
import type { Target } from './targets/target.ts';
import { isTorchFile } from './torch/is-torch-file.ts';
import { readTorch } from './torch/read.ts';
import { chooseTactics } from './tune/choose.ts';
import { TimingCache } from './tune/timing-cache.ts';

/**
 * Builds an engine from ONNX bytes, from the bytes of a PyTorch file (a checkpoint, safetensors, an exported program), or from a graph
 * made with `graphBuilder`.
 * Throws ModelError where the model, the options or the machine do not allow it, `aborted` if the signal fires; Bug if Hotrod is wrong.
 */
export async function build(model: Uint8Array | Graph, options: BuildOptions = {}): Promise<BuildReport> {
  const run = new BuildRun(options);
  const target = await chooseTarget(options.target ?? 'auto', options.gpuArch);
  const precision = choosePrecision(target, options.precision ?? 'fp32');
  if (options.embedCode && !target.compile)
    throw new ModelError('option-invalid', `target ${target.name} has no code that could be embedded for this machine`);
  const ops = options.ops ? new Map([...OPS, ...options.ops.map((op) => [op.key, op] as const)]) : OPS;
  const { onWarning } = run;

  const read = await run.stage(
    'read',
    () =>
      model instanceof Uint8Array
        ? readModel(model, options, ops, onWarning)
        : fixInputs(model, ops, options.constants ?? {}),
    printGraph,
  );
  const passOptions = { verify: options.verify ?? false, stopAfter: run.stopPass };
  const { computes, widensBytes = false } = target;
  const context = { ops, computes, widensBytes, onWarning };
  const optimise = (bound: Graph, table = ops): Graph => runPipeline(bound, { ...context, ops: table }, passOptions);
  // How neighbours are put side by side depends on the sizes, so open ones are left as they are.
  const channelRun = target.channelRun?.(precision);
  const packed = { ...context, ...(channelRun !== undefined && { channelRun }) };
  const optimiseAgain = (bound: Graph): Graph => runPipeline(bound, { ...packed, onWarning: () => {} }, passOptions);
  const { profiles = [] } = options;
  const fixed = fixedShapes(profiles);
  if (profiles.length > 0 && !fixed) {
    if (precision === 'int8') throw needsSizes();
    if (!target.takesSizes) throw sizesMissing(target);
    const engine = await buildOpen(run, read, target, ops, { ...options, precision }, optimise);
    return reportOf(run, await compileCode(run, engine, target, options));
  }
  const bound = await run.stage(
    'infer',
    () => bindShapes(read, ops, { ...options.shapes, ...fixed }, onWarning),
    printGraph,
  );
  const graph = await run.stage('passes', () => runPipeline(bound, packed, passOptions), printGraph);
  // Sizes that only the data decide are open, though those of the inputs are not.
  if (target.takesSizes && countable(graph, ops).size > 0) {
    if (precision === 'int8') throw needsSizes();
    const shapes = { ...options.shapes, ...fixed };
    const settings = { ...options, precision, shapes, profiles: [] };
    const engine = await buildOpen(run, read, target, ops, settings, optimise);
    return reportOf(run, await compileCode(run, engine, target, options));
  }
  if (precision === 'int8' && !options.samples?.length)
    onWarning(
      'int8 was calibrated on random numbers: give typical inputs (--sample NAME=FILE.npy, or BuildOptions.samples)',
    );
  const settings = assignOptions(ops, { ...options, precision }, onWarning);
  const quantized =
    precision === 'int8'
      ? await run.stage(
          'calibrate',
          async () => optimise(await quantizeGraph(graph, ops, settings.samples(graph), settings.open)),
          printGraph,
        )
      : graph;
  const alone = { forOneSample: (of: Graph) => forOneSample({ read, graph: of }, ops, optimiseAgain) };
  const assigned = await run.stage(
    'precision',
    () => assignPrecision(quantized, ops, options.samples?.length ? settings : { ...settings, ...alone }),
    printGraph,
  );
  const engine = target.templates
    ? await buildProgram(run, assigned, target, ops, { ...options, precision })
    : graphEngine(assigned, ops, VERSION);
  return reportOf(run, await compileCode(run, engine, target, options));
}

const reportOf = ({ stages, warnings }: BuildRun, engine: Engine): BuildReport => ({
  engine,
  stages,
  buildMs: stages.reduce((sum, s) => sum + s.ms, 0),
  warnings,
});

/** A build for the sizes that the profiles, or the data, leave open. */
async function buildOpen(
  run: BuildRun,
  read: Graph,
  target: Target,
  ops: ReadonlyMap<string, Op>,
  options: BuildOptions,
  optimise: OpenRoom['optimise'],
): Promise<Engine> {
  const { profiles = [], shapes = {}, precision } = options;
  /** Chosen at the first sample, made at all of them. */
  let chosen: Assignment | undefined;
  const room: OpenRoom = {
    run,
    optimise,
    assign: async (graph, table) => {
      chosen ??= await choosePrecisions(graph, table, assignOptions(table, options, run.onWarning));
      return chosen.assign(graph);
    },
    constant: (name, find) => (chosen ? chosen.constant(name, find) : find(name)),
    facts: { tf32: precision === 'tf32' },
    check: (graph, table) => checkLowerable(graph, table, target.name),
  };
  const { graph, profiles: kept } = await lowerOpen(room, read, ops, profiles, shapes);
  return { ...(await finishProgram(run, graph, target, options)), profiles: kept };
}

const assignOptions = (
  ops: ReadonlyMap<string, Op>,
  options: BuildOptions,
  onWarning: (message: string) => void,
): AssignOptions => {
  const { precision = 'fp32', samples } = options;
  // Kept where it can be told by what is hashed: operators of the caller's have code of their own, and who verifies wants all done.
  const findings = options.ops || options.verify ? undefined : userFindings();
  return {
    precision,
    samples: (graph) => samplesOf(graph, ops, samples),
    open: (g, mostFlops) => openOnProcessor(g, ops, mostFlops),
    ...(findings && { recall: recallFrom(findings, precision, samples) }),
    onWarning,
  };
};

const needsSizes = (): ModelError =>
  new ModelError('option-invalid', 'precision int8 is calibrated at one shape an input, and all sizes must be known', {
    hint: 'give --shapes, or leave --precision out',
  });

const sizesMissing = (target: Target): ModelError =>
  new ModelError('option-invalid', `target ${target.name} has no open sizes: its engines have one shape an input`, {
    hint: 'give --shapes, or build for wasm, x64 or cuda',
  });

/** The half of a build that ends in code: for targets that run kernels. */
async function buildProgram(
  run: BuildRun,
  graph: Graph,
  target: Target,
  ops: ReadonlyMap<string, Op>,
  options: BuildOptions,
): Promise<Engine> {
  checkLowerable(graph, ops, target.name);
  return finishProgram(run, await lowerGraph(run, graph, target, ops, options), target, options);
}

async function lowerGraph(
  run: BuildRun,
  graph: Graph,
  target: Target,
  ops: ReadonlyMap<string, Op>,
  options: BuildOptions,
): Promise<LoweredGraph> {
  const ordered = target.sideBySide ? orderByDepth(graph, ops) : graph;
  const fusion = await run.stage('fuse', () => fuse(ordered, ops), printFusion);
  const facts = { tf32: options.precision === 'tf32' };
  return run.stage('lower', () => fuseSteps(lower(ordered, ops, fusion, facts)), printLowered);
}

/** From kernels to the engine. */
async function finishProgram(
  run: BuildRun,
  lowered: LoweredGraph,
  target: Target,
  options: BuildOptions,
): Promise<Engine> {
  const tuning = {
    effort: options.effort ?? 0,
    machine: [target.name, target.machineName?.() ?? processorName(), ...target.features()].join(' '),
    cache: options.timingCache ?? new TimingCache(),
    checkpoint: () => run.checkpoint('tune'),
  };
  const graph = await run.stage('attend', () => chooseAttention(lowered, target, tuning), printLowered);
  if (options.verify) for (const { kernel } of graph.steps) verifyKernel(kernel);
  const plan = await run.stage('plan', () => planMemory(graph, target), printPlan);
  checkWorkspace(plan.arenaBytes, options.workspaceBytes);
  const tactics = await run.stage(
    'tune',
    () => chooseTactics(graph.steps, target, tuning),
    (t) => printTactics(graph, t),
  );
  const packed = await run.stage('pack', () => packWeights(graph, tactics, target));
  const program = await run.stage('schedule', () => schedule(graph, plan, tactics, packed, target));
  const code = await run.stage('emit', () => target.emit?.(program) ?? []);
  return {
    name: graph.name,
    target: target.name,
    builtBy: VERSION,
    machine: target.features(),
    precision: options.precision ?? 'fp32',
    ...program,
    code,
  };
}

/** The engine, with its code compiled for this machine where opening would have to; in the engine too where it is asked for. */
async function compileCode(run: BuildRun, engine: Engine, target: Target, options: BuildOptions): Promise<Engine> {
  const { compile } = target;
  if (!compile) return engine;
  const code = await run.stage('compile', () => compile(engine));
  return options.embedCode ? { ...engine, code: [...engine.code, ...code] } : engine;
}

/**
 * A graph of f32 and halves ready to run on this machine's processor, which computes what a machine with halves would. Undefined where a
 * run takes more than `mostFlops`.
 */
export async function openOnProcessor(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  mostFlops = Number.POSITIVE_INFINITY,
): Promise<GraphRunner | undefined> {
  const target = await chooseProcessor();
  const expanded = expandOps(graph, { ops, computes: target.computes, onWarning: () => {} });
  checkLowerable(expanded, ops, target.name);
  const run = new BuildRun({});
  const lowered = withoutHalves(await lowerGraph(run, expanded, target, ops, {}));
  if (lowered.steps.reduce((sum, { kernel }) => sum + kernelCost(kernel).flops, 0) > mostFlops) return undefined;
  return runnerOf(await finishProgram(run, lowered, target, {}), target);
}

function readModel(
  bytes: Uint8Array,
  options: BuildOptions,
  ops: ReadonlyMap<string, Op>,
  onWarning: (message: string) => void,
): Graph {
  const { openExternal, constants, arch, shapes } = options;
  if (isTorchFile(bytes)) {
    const { graph } = readTorch(bytes, { ops, ...(arch !== undefined && { arch }), ...(shapes && { shapes }) });
    return fixInputs(graph, ops, constants ?? {});
  }
  return readOnnx(bytes, { ops, onWarning, ...(openExternal && { openExternal }), ...(constants && { constants }) });
}

/** The precision that a build computes in. Throws ModelError `option-invalid` where the target does not have it. */
function choosePrecision(target: Target, asked: Precision): Precision {
  const { precisions } = target;
  if (asked === 'auto') return precisions.has('fp16') ? 'auto' : 'fp32';
  if (precisions.has(asked)) return asked;
  throw new ModelError(
    'option-invalid',
    `precision ${asked} is not available on target ${target.name}, which computes in ${[...precisions].join(', ')}`,
    { hint: 'leave --precision out, or say fp32 or auto' },
  );
}

function checkWorkspace(arenaBytes: number, limit: number | undefined): void {
  if (limit === undefined || arenaBytes <= limit) return;
  throw new ModelError(
    'option-invalid',
    `the engine needs an arena of ${arenaBytes} bytes, the workspace limit is ${limit}`,
    {
      hint: `allow a workspace of ${Math.ceil(arenaBytes / 2 ** 20)}MiB, or build for smaller input shapes`,
    },
  );
}
