/**
 * The generated kernel: any body, by threads or teams of threads as nest-plan.ts says. Applies to every kernel but attends that
 * their own template takes.
 */
import type { Axis, Stmt } from '../../loop/ir.ts';
import { attend } from './attend.ts';
import { divideBy, remainderBy } from './divide.ts';
import { BodyEmitter } from './emit-body.ts';
import { ExprEmitter } from './emit-expr.ts';
import { beforeLimits } from './limits.ts';
import { exprSize, type NestPlan, planNest } from './nest-plan.ts';
import type { PtxKernel, Reg } from './ptx.ts';
import { columnTeam, rowTeam, type Team } from './team.ts';
import { beginKernel, bufferArgs, type CudaTemplate, type EmittedKernel, type KernelSite } from './template.ts';

const LAUNCH_NS = 2000;
const BYTES_PER_NS = 2500;
/** Simple operations of all multiprocessors together. */
const OPS_PER_NS = 6000;
/** An iteration of one thread that waits for memory, several of them overlapping. */
const ITERATION_NS = 40;

export const generated: CudaTemplate = {
  name: 'generated',
  form: 'any',
  // Of an attend it computes the scores anew for each value: only where nothing else can.
  candidates: (...task) => (attend.candidates(...task).length > 0 ? [] : [{}]),
  predictNs: (kernel) => {
    const { points, lanes, threads, spread, shape, kernel: merged } = planNest(kernel);
    const bytes = kernel.buffers.reduce((n, b) => n + b.elements * 4, 0);
    const { operations, iterations } = workOf(merged.body);
    const shared = shape === 'points' ? 1 : threads * spread * (shape === 'row' ? lanes : 1);
    return (
      LAUNCH_NS +
      Math.max(bytes / BYTES_PER_NS, (points * operations) / OPS_PER_NS, (iterations / shared) * ITERATION_NS)
    );
  },
  tiles: (kernel) => planNest(kernel).points,
  emit: emitGenerated,
};

/** Operations and loop iterations of one point: loops multiply what is inside. */
function workOf(body: readonly Stmt[]): { readonly operations: number; readonly iterations: number } {
  let operations = 0;
  let iterations = 1;
  const add = (times: number, inside: { readonly operations: number; readonly iterations: number }): void => {
    operations += times * inside.operations;
    iterations += times * inside.iterations;
  };
  for (const s of body) {
    if (s.kind === 'for' || s.kind === 'scan') add(s.axis.extent, workOf(s.body));
    else if (s.kind === 'if') add(1, workOf(s.body));
    else if (s.kind === 'reduce') {
      add(
        s.axes.reduce((n, a) => n * a.extent, 1),
        { operations: exprSize(s.value), iterations: 1 },
      );
    } else operations += exprSize(s.value);
  }
  return { operations, iterations };
}

function emitGenerated(site: KernelSite): EmittedKernel {
  const plan = planNest(site.kernel);
  if (plan.points === 0) return { launches: [], scratchBytes: 0 };
  const { code, buffers } = beginKernel(site, plan.block);
  const exprs = new ExprEmitter(code, plan.kernel, buffers, site.alignments);
  const blocks = site.chip.computeCapability >= 90 ? plan.spread : 1;
  const perBlock = plan.block / plan.threads;
  const units = plan.points / (plan.shape === 'row' ? 1 : plan.lanes);
  if (plan.shape === 'points') emitPoints(code, plan, exprs);
  else emitTeam(code, plan, exprs, blocks);
  const grid = [Math.ceil(units / perBlock) * blocks, 1, 1] as const;
  const cluster = blocks > 1 && { cluster: [blocks, 1, 1] as const };
  const args = bufferArgs(site.kernel);
  return { launches: [{ code, grid, block: [plan.block, 1, 1], ...cluster, args }], scratchBytes: 0 };
}

function emitPoints(k: PtxKernel, plan: NestPlan, exprs: ExprEmitter): void {
  const { axes, lanes, block, points } = plan;
  const threads = points / lanes;
  const flat = k.op('mad.lo.u32', k.special('ctaid.x'), block, k.special('tid.x'));
  const run = (): void =>
    exprs.withLanes(lanes, () => {
      const inside = bindPoint(k, exprs, axes, flat, lanes);
      const body = (): void => new BodyEmitter(k, plan.kernel, exprs).body(plan.kernel.body);
      if (inside) k.if(inside, () => exprs.scope(body));
      else body();
    });
  if (threads % block === 0) run();
  else k.if(k.op('setp.lt.u32', flat, threads), run);
}

function emitTeam(k: PtxKernel, plan: NestPlan, exprs: ExprEmitter, blocks: number): void {
  const { axes, points, threads, block, lanes } = plan;
  const perBlock = block / threads;
  const tid = k.special('tid.x');
  const isRow = plan.shape === 'row';
  const [local, column] = isRow
    ? [remainderBy(k, tid, threads), divideBy(k, tid, threads)]
    : [divideBy(k, tid, perBlock), remainderBy(k, tid, perBlock)];
  const cluster = divideBy(k, k.special('ctaid.x'), blocks);
  const part = remainderBy(k, k.special('ctaid.x'), blocks);
  const rank = blocks > 1 ? k.op('mad.lo.u32', part, threads, local) : local;
  const flat = k.op('mad.lo.u32', cluster, perBlock, column);
  // In lanes lie a row's iterations, or neighbouring points of a column.
  const pointLanes = isRow ? 1 : lanes;
  const units = points / pointLanes;
  const valid = units % perBlock === 0 ? undefined : k.op('setp.lt.u32', flat, units);
  exprs.withLanes(pointLanes, () => {
    const inside = bindPoint(k, exprs, axes, valid ? k.op('min.u32', flat, units - 1) : flat, pointLanes);
    const exists = valid && inside ? k.op('and.pred', valid, inside) : (valid ?? inside);
    const ordered = plan.ordered && { ordered: plan.ordered };
    const place = { threads: threads * blocks, lanes, local, rank, valid: exists, blocks, ...ordered };
    const team: Team = isRow ? rowTeam(k, place) : columnTeam(k, place, perBlock, column);
    const emitter = new BodyEmitter(k, plan.kernel, exprs, team);
    emitter.askAhead(plan.kernel.body);
    emitter.body(plan.kernel.body);
    team.finish();
  });
}

/**
 * Axes from a flat position in units of `lanes` points, the last axis fastest. The predicate tells whether the point lies before all limits;
 * undefined where there are none.
 */
export function bindPoint(
  k: PtxKernel,
  exprs: ExprEmitter,
  axes: readonly Axis[],
  flat: Reg,
  lanes: number,
): Reg | undefined {
  let rest = flat;
  const coords = axes.map(() => flat);
  for (let i = axes.length - 1; i > 0; i--) {
    const extent = i === axes.length - 1 ? axes[i].extent / lanes : axes[i].extent;
    coords[i] = remainderBy(k, rest, extent);
    rest = divideBy(k, rest, extent);
  }
  coords[0] = rest;
  axes.forEach((axis, i) => {
    const inLanes = lanes > 1 && i === axes.length - 1;
    exprs.bindAxis(axis, { reg: coords[i], offset: 0, ...(inLanes && { scale: lanes, lanes: true }) });
  });
  const positions = axes.map((axis, i) => {
    const scaled = lanes > 1 && i === axes.length - 1 && axis.limit;
    return { axis, at: scaled ? k.op('mul.lo.s32', coords[i], lanes) : coords[i] };
  });
  return beforeLimits(k, exprs, positions);
}
