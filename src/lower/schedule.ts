/**
 * The last stage of lowering: steps with addresses, threads and barriers, ready to be emitted and stored.
 */
import { DTYPES } from '../core/dtype.ts';
import { isStatic, printDim, type Shape } from '../core/shape.ts';
import type { Binding, BufferRef, Engine, EngineSizes, Step, Tactic } from '../engine/engine.ts';
import { kernelCost } from '../loop/cost.ts';
import type { Target, Template } from '../targets/target.ts';
import type { LoweredGraph, LoweredSizes, LoweredStep } from './lower.ts';
import type { MemoryPlan } from './plan.ts';
import { type Storage, span } from './storage.ts';
import type { PackedWeights } from './weights.ts';

export type Schedule = Pick<
  Engine,
  'inputs' | 'outputs' | 'kernels' | 'steps' | 'weights' | 'weightBytes' | 'arenaBytes' | 'sizes'
>;

/** Work below which another thread costs more than it brings: about two barriers. */
const NS_PER_THREAD = 4000;

export function schedule(
  graph: LoweredGraph,
  plan: MemoryPlan,
  tactics: readonly Tactic[],
  packed: PackedWeights,
  target: Target,
): Schedule {
  const kernels = [...new Set(graph.steps.map((s) => s.kernel))];
  const steps = graph.steps.map((step, i): Step => {
    const { kernel, operands } = step;
    const tactic = tactics[i];
    const template = target.templates?.find((t) => t.name === tactic.template) as Template;
    const tiles = template.tiles(kernel, tactic.params);
    const scratchBytes = template.scratchBytes?.(kernel, tactic.params) ?? 0;
    const { flops, bytesRead, bytesWritten } = kernelCost(step.usual ?? kernel);
    return {
      kernel: kernels.indexOf(kernel),
      tactic,
      buffers: operands.map(({ storage }, o) => packed.refs[i][o] ?? arenaRef(plan, storage)),
      values: operands.map((o) => o.value),
      shapes: operands.map((o) => o.storage.shape),
      loc: step.loc,
      tiles,
      maxThreads: Math.max(1, Math.min(tiles, Math.round(tactic.predictedNs / NS_PER_THREAD))),
      ...(scratchBytes > 0 && { scratchBytes }),
      barrier: false,
      flops,
      bytesMoved: bytesRead + bytesWritten,
    };
  });
  return {
    inputs: graph.inputs.map((io, i) => binding(plan, io, graph.sizes, graph.sizes?.inputs[i])),
    outputs: graph.outputs.map((io, i) => binding(plan, io, graph.sizes, graph.sizes?.outputs[i])),
    kernels,
    steps: placeBarriers(steps, graph.steps),
    weights: packed.weights,
    weightBytes: packed.bytes,
    arenaBytes: plan.arenaBytes,
    ...(graph.sizes && { sizes: sizesOf(plan, graph.sizes) }),
  };
}

const sizesOf = (plan: MemoryPlan, { block, formulas, data }: LoweredSizes): EngineSizes => ({
  buffer: arenaRef(plan, { block, offset: 0, shape: [block.elements], strides: [1] }),
  formulas,
  data,
});

function arenaRef(plan: MemoryPlan, storage: Storage): BufferRef {
  const size = DTYPES[storage.block.dtype].bytes;
  const base = plan.byteOffset.get(storage.block) as number;
  return { space: 'arena', byteOffset: base + storage.offset * size, bytes: span(storage) * size };
}

function binding(
  plan: MemoryPlan,
  { name, storage }: { name: string; storage: Storage },
  sizes: LoweredSizes | undefined,
  dims: Shape | undefined,
): Binding {
  const { dtype } = storage.block;
  const bound = { name, dtype, shape: storage.shape, buffer: arenaRef(plan, storage) };
  if (!sizes || !dims || isStatic(dims)) return bound;
  const words = sizes.formulas.map(printDim);
  return { ...bound, words: dims.map((dim) => (typeof dim === 'number' ? null : words.indexOf(printDim(dim)))) };
}

/**
 * A barrier stands before a step that touches what another thread may still be touching: since the last barrier some step wrote
 * what this one reads or writes, or read what this one writes. Two steps that each run on one thread alone run on the same one.
 */
function placeBarriers(steps: readonly Step[], lowered: readonly LoweredStep[]): Step[] {
  let open: number[] = [];
  return steps.map((step, i) => {
    const clash = open.some(
      (j) => (steps[j].maxThreads > 1 || step.maxThreads > 1) && conflict(steps[j], lowered[j], step, lowered[i]),
    );
    open = clash ? [i] : [...open, i];
    return clash ? { ...step, barrier: true } : step;
  });
}

const conflict = (a: Step, aLowered: LoweredStep, b: Step, bLowered: LoweredStep): boolean =>
  a.buffers.some((x, i) =>
    b.buffers.some(
      (y, j) => (aLowered.operands[i].role === 'out' || bLowered.operands[j].role === 'out') && overlap(x, y),
    ),
  );

const overlap = (x: BufferRef, y: BufferRef): boolean =>
  x.space === y.space && x.byteOffset < y.byteOffset + y.bytes && y.byteOffset < x.byteOffset + x.bytes;
