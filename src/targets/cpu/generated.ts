/**
 * The template that every kernel has, but for attends that their own template takes: a loop nest generated from the kernel's body. Also its cost model.
 *
 * predictNs takes the larger of arithmetic (operations over lanes that run at once) and memory traffic, so that tuning can compare
 * it with the micro-kernels.
 */
import { touchedBytes } from '../../loop/footprint.ts';
import type { Stmt } from '../../loop/ir.ts';
import { attend } from './attend.ts';
import { emitNest } from './emit-nest.ts';
import { bodySize, isLaneLoop, isLaneReduce, type LaneFacts } from './lanes.ts';
import { ExprTable } from './linear.ts';
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
  // Of an attend it computes the scores anew for each value: only where nothing else can.
  candidates: (...task) => (attend.candidates(...task).length > 0 ? [] : [{}]),
  predictNs: (kernel) => {
    const points = kernel.axes.reduce((n, a) => n * a.extent, 1);
    const { kernel: merged, lanes } = planNest(kernel, PLAN_LANES);
    const facts = { table: new ExprTable(), buffers: new Map(kernel.buffers.map((b) => [b.name, b])) };
    const work = workOf(merged.body, lanes ? undefined : facts);
    const cycles = (points * work) / OPS_PER_CYCLE / (lanes ? PLAN_LANES : 1);
    const bytes = touchedBytes(kernel);
    return Math.max(cycles * NS_PER_CYCLE, bytes / BYTES_PER_NS) + 20;
  },
  tiles: (kernel) => planNest(kernel, PLAN_LANES).tiles,
  emit: (asm, kernel) => emitNest(asm, planNest(kernel, PLAN_LANES)),
};

/** Operations that a body runs: loops multiply what is inside; with `facts`, those that run on vectors are divided by their lanes. */
function workOf(body: readonly Stmt[], facts: LaneFacts | undefined): number {
  return body.reduce((n, s) => {
    switch (s.kind) {
      case 'for': {
        const inLanes = facts && isLaneLoop(facts, s.axis, s.body, PLAN_LANES);
        return n + (s.axis.extent * workOf(s.body, inLanes ? undefined : facts)) / (inLanes ? PLAN_LANES : 1);
      }
      case 'scan':
        return n + s.axis.extent * workOf(s.body, facts);
      case 'reduce': {
        const last = s.axes.at(-1);
        const inLanes = facts && last && isLaneReduce(facts, last, s.value, PLAN_LANES);
        return n + (s.axes.reduce((m, a) => m * a.extent, 1) * bodySize([s])) / (inLanes ? PLAN_LANES : 1);
      }
      case 'if':
        return n + 1 + workOf(s.body, facts);
      default:
        return n + bodySize([s]);
    }
  }, 0);
}
