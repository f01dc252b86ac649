/**
 * From lowered steps to the steps of an engine: addresses from the memory plan, tactics, packed weights, threads and barriers.
 * Steps with equal kernel text share one kernel.
 */
import { DTYPES } from '../core/dtype.ts';
import type { Binding, BufferRef, Engine, Step, Tactic } from '../engine/engine.ts';
import { kernelCost } from '../loop/cost.ts';
import type { Kernel } from '../loop/ir.ts';
import { kernelKey } from '../loop/print.ts';
import type { KernelFacts, Target, Template } from '../targets/target.ts';
import type { Operand } from './kernel-writer.ts';
import type { LoweredGraph, LoweredStep } from './lower.ts';
import { type MemoryPlan, planMemory } from './plan.ts';
import { type Storage, span } from './storage.ts';
import { WeightStore } from './weights.ts';

export type Chooser = (kernel: Kernel, facts: KernelFacts) => Tactic;
export type Schedule = Pick<Engine, 'inputs' | 'outputs' | 'kernels' | 'steps' | 'weights' | 'weightBytes' | 'arenaBytes'>;

/** Work below which another thread costs more than it brings: about two barriers. */
const NS_PER_THREAD = 4000;

export function schedule(graph: LoweredGraph, target: Target, choose: Chooser): Schedule {
  const plan = planMemory(graph);
  const templates = new Map((target.templates ?? []).map((t) => [t.name, t]));
  const store = new WeightStore(graph.constants, target.pack);
  const kernels: Kernel[] = [];
  const kernelIndex = new Map<string, number>();
  const tactics = new Map<string, Tactic>();

  const toStep = (step: LoweredStep): Step => {
    const key = kernelKey(step.kernel);
    let index = kernelIndex.get(key);
    if (index === undefined) {
      index = kernels.push(step.kernel) - 1;
      kernelIndex.set(key, index);
    }
    const kernel = kernels[index];
    const facts = factsOf(step);
    const tacticKey = `${index} ${[...facts.constant].join()}`;
    const tactic = tactics.get(tacticKey) ?? choose(kernel, facts);
    tactics.set(tacticKey, tactic);
    const template = templates.get(tactic.template) as Template;
    const packing = template.packing?.(kernel, tactic.params);
    const tiles = template.tiles(kernel, tactic.params);
    const { flops, bytesRead, bytesWritten } = kernelCost(kernel);
    return {
      kernel: index,
      tactic,
      buffers: step.operands.map(({ storage }, i) => {
        const { name } = kernel.buffers[i];
        return storage.block.space === 'weights' ? store.place(storage, kernel, name, packing?.get(name)) : arenaRef(plan, storage);
      }),
      values: step.operands.map((o) => o.value),
      shapes: step.operands.map((o) => o.storage.shape),
      loc: step.loc,
      tiles,
      maxThreads: Math.max(1, Math.min(tiles, Math.round(tactic.predictedNs / NS_PER_THREAD))),
      barrier: false,
      flops,
      bytesMoved: bytesRead + bytesWritten,
    };
  };

  const steps = placeBarriers(graph.steps.map(toStep), graph.steps);
  return {
    inputs: graph.inputs.map((io) => binding(plan, io)),
    outputs: graph.outputs.map((io) => binding(plan, io)),
    kernels,
    steps,
    weights: store.weights,
    weightBytes: store.bytes(),
    arenaBytes: plan.arenaBytes,
  };
}

const factsOf = (step: LoweredStep): KernelFacts => ({
  constant: new Set(step.kernel.buffers.filter((_, i) => step.operands[i].storage.block.space === 'weights').map((b) => b.name)),
});

function arenaRef(plan: MemoryPlan, storage: Storage): BufferRef {
  const size = DTYPES[storage.block.dtype].bytes;
  const base = plan.byteOffset.get(storage.block) as number;
  return { space: 'arena', byteOffset: base + storage.offset * size, bytes: span(storage) * size };
}

const binding = (plan: MemoryPlan, { name, storage }: { name: string; storage: Storage }): Binding => ({
  name,
  dtype: storage.block.dtype,
  shape: storage.shape,
  buffer: arenaRef(plan, storage),
});

/**
 * A barrier stands before a step that touches what another thread may still be touching: since the last barrier some step wrote
 * what this one reads or writes, or read what this one writes. Two steps that each run on one thread alone run on the same one.
 */
function placeBarriers(steps: readonly Step[], lowered: readonly LoweredStep[]): Step[] {
  let open: { step: Step; operands: readonly Operand[] }[] = [];
  return steps.map((step, i) => {
    const { operands } = lowered[i];
    const clash = open.some((o) => (o.step.maxThreads > 1 || step.maxThreads > 1) && conflicts(o.step, o.operands, step, operands));
    if (clash) open = [];
    open.push({ step, operands });
    return clash ? { ...step, barrier: true } : step;
  });
}

const conflicts = (a: Step, aOperands: readonly Operand[], b: Step, bOperands: readonly Operand[]): boolean =>
  a.buffers.some((x, i) =>
    b.buffers.some((y, j) => (aOperands[i].role === 'out' || bOperands[j].role === 'out') && overlap(x, y)),
  );

const overlap = (x: BufferRef, y: BufferRef): boolean =>
  x.space === y.space && x.byteOffset < y.byteOffset + y.bytes && y.byteOffset < x.byteOffset + x.bytes;
