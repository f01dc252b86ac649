/**
 * The template that every kernel has: a loop nest generated from the kernel's body. Also its cost model.
 *
 * predictNs takes the larger of arithmetic (operations over lanes that run at once) and memory traffic, so that tuning can compare
 * it with the micro-kernels.
 */
import type { Stmt } from '../../loop/ir.ts';
import { emitNest } from './emit-nest.ts';
import { bodySize } from './lanes.ts';
import { planNest } from './nest-plan.ts';
import type { CpuTemplate } from './template.ts';

/** Tiles are planned for vectors of 128 bits on every machine: wider lanes only unroll less. */
const PLAN_LANES = 4;
const NS_PER_CYCLE = 0.3;
const BYTES_PER_NS = 8;
/** Operations a cycle that straight code sustains. */
const OPS_PER_CYCLE = 2;

export const generated: CpuTemplate = {
  name: 'generated',
  form: 'any',
  candidates: () => [{}],
  predictNs: (kernel) => {
    const points = kernel.axes.reduce((n, a) => n * a.extent, 1);
    const { kernel: merged, lanes } = planNest(kernel, PLAN_LANES);
    const cycles = (points * workOf(merged.body)) / OPS_PER_CYCLE / (lanes ? PLAN_LANES : 1);
    const bytes = kernel.buffers.reduce((n, b) => n + b.elements * 4, 0);
    return Math.max(cycles * NS_PER_CYCLE, bytes / BYTES_PER_NS) + 20;
  },
  tiles: (kernel) => planNest(kernel, PLAN_LANES).tiles,
  emit: (asm, kernel) => emitNest(asm, planNest(kernel, PLAN_LANES)),
};

/** Operations that a body runs: loops multiply what is inside. */
function workOf(body: readonly Stmt[]): number {
  return body.reduce((n, s) => {
    switch (s.kind) {
      case 'for':
      case 'scan':
        return n + s.axis.extent * workOf(s.body);
      case 'reduce':
        return n + s.axes.reduce((m, a) => m * a.extent, 1) * bodySize([s]);
      case 'if':
        return n + 1 + workOf(s.body);
      default:
        return n + bodySize([s]);
    }
  }, 0);
}
