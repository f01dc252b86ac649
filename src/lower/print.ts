/**
 * Lowering's stages as text, for DEBUG and STOP_AFTER: clusters, kernels with their places, the memory plan, tactics.
 */
import { printShape } from '../core/shape.ts';
import type { Tactic } from '../engine/engine.ts';
import { nodeLabel } from '../graph/ir.ts';
import { printKernel } from '../loop/print.ts';
import type { Fusion } from './fuse.ts';
import type { LoweredGraph } from './lower.ts';
import type { MemoryPlan } from './plan.ts';
import type { Storage } from './storage.ts';

/** `conv1 = Conv "/conv1" <- Relu "/relu"`, a line a cluster; then the values that live inside their readers. */
export function printFusion(fusion: Fusion): string {
  const lines = fusion.clusters.map((c) => `${c.value} = ${[c.root, ...c.behind].map(nodeLabel).join(' <- ')}`);
  return [...lines, `inlined: ${[...fusion.inlined].join(', ') || 'none'}`].join('\n');
}

/** Each step's kernel in loop IR, under the values and storages that its buffers stand for. */
export const printLowered = (graph: LoweredGraph): string =>
  graph.steps
    .map((step) => {
      const operands = step.operands.map(
        (o, i) => `# ${step.kernel.buffers[i].name} = ${o.value} ${printStorage(o.storage)}`,
      );
      return [`# ${step.loc.join('+')}`, ...operands, printKernel(step.kernel)].join('\n');
    })
    .join('\n\n');

const printStorage = (s: Storage): string =>
  `${s.block.dtype}${printShape(s.shape)} strides ${printShape(s.strides)} in ${s.block.space} block ${s.block.id} at ${s.offset}`;

/** `block 3 conv1: 802816 bytes at 0`, by offset. */
export const printPlan = (plan: MemoryPlan): string =>
  [
    ...[...plan.byteOffset]
      .sort((a, b) => a[1] - b[1])
      .map(([block, at]) => `block ${block.id} ${block.name}: ${block.elements} ${block.dtype} at byte ${at}`),
    `arena ${plan.arenaBytes} bytes`,
  ].join('\n');

export const printTactics = (graph: LoweredGraph, tactics: readonly Tactic[]): string =>
  graph.steps
    .map(
      ({ kernel }, i) =>
        `${kernel.name}: ${tactics[i].template} ${JSON.stringify(tactics[i].params)} ${(tactics[i].predictedNs / 1e3).toFixed(1)} us predicted`,
    )
    .join('\n');
