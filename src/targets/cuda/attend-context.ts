/**
 * What the parts of an attend's kernel share while they are written: the builder, the problem, and registers that name the place of the
 * thread: its warp along rows and keys, its lane's row and column in a fragment.
 */
import type { Axis, Kernel } from '../../loop/ir.ts';
import { type AttendLayout, type AttendShape, type AttendTile, layoutOf } from './attend-plan.ts';
import { divideBy, remainderBy } from './divide.ts';
import { ExprEmitter } from './emit-expr.ts';
import { coefOf, type Linear } from './gemm-plan.ts';
import type { PtxKernel, Reg } from './ptx.ts';
import { beginKernel, type KernelSite } from './template.ts';

/** Axes with the registers of their positions. */
export type Positions = readonly { readonly axis: Axis; readonly at: Reg }[];

export interface AttendContext {
  readonly k: PtxKernel;
  readonly exprs: ExprEmitter;
  /** With the legalized form. */
  readonly kernel: Kernel;
  readonly shape: AttendShape;
  readonly tile: AttendTile;
  readonly layout: AttendLayout;
  readonly threads: number;
  readonly pointers: ReadonlyMap<string, Reg>;
  readonly shared: Reg;
  readonly tid: Reg;
  /** In a fragment of 16 × 8: the lane's first row, and which pair of columns. */
  readonly group: Reg;
  readonly pair: Reg;
  readonly lane: Reg;
  /** The warp's number along rows and along keys. */
  readonly warpRow: Reg;
  readonly warpKey: Reg;
  /** The block's tile of rows, and its number in its cluster. */
  readonly rowTile: Reg;
  readonly rank: Reg;
  readonly batch: Positions;
}

/** What a thread knows of two rows, 8 apart, after its keys. */
export interface RowStates {
  /** [tile of 8 values][4]: pairs of columns of the first row, then of the second. */
  readonly sums: readonly (readonly Reg[])[];
  /** The greatest score; its binary exponent where the score is a product times a number. */
  readonly most: readonly Reg[];
  /** Of weights, over the thread's columns only. */
  readonly total: readonly Reg[];
}

export function beginAttend(site: KernelSite, shape: AttendShape, tile: AttendTile): AttendContext {
  const threads = 32 * tile.wm * tile.wk;
  const { code: k, buffers } = beginKernel(site, threads);
  const kernel = { ...site.kernel, form: shape.form };
  const exprs = new ExprEmitter(k, kernel, buffers, site.alignments);
  const tid = k.special('tid.x');
  const lane = k.op('and.b32', tid, 31);
  const warp = k.op('shr.u32', tid, 5);
  const block = k.special('ctaid.x');
  const batch = positionsOf(k, k.special('ctaid.y'), shape.batch);
  for (const axis of shape.fixed) exprs.bindAxis(axis, { offset: 0 });
  for (const { axis, at } of batch) exprs.bindAxis(axis, { reg: at, offset: 0 });
  return {
    k,
    exprs,
    kernel,
    shape,
    tile,
    layout: layoutOf(shape, tile),
    threads,
    pointers: new Map(site.kernel.buffers.map((b, i) => [b.name, buffers[i]])),
    shared: k.sharedDynamic(),
    tid,
    lane,
    group: k.op('shr.u32', lane, 2),
    pair: k.op('and.b32', lane, 3),
    warpRow: remainderBy(k, warp, tile.wm),
    warpKey: divideBy(k, warp, tile.wm),
    rowTile: divideBy(k, block, tile.split),
    rank: remainderBy(k, block, tile.split),
    batch,
  };
}

/** The positions of axes, the last fastest, from their flat position. */
export function positionsOf(k: PtxKernel, flat: Reg, axes: readonly Axis[]): Positions {
  let rest = flat;
  const found: { axis: Axis; at: Reg }[] = [];
  for (const axis of axes.toReversed()) {
    const last = found.length === axes.length - 1;
    found.push({ axis, at: last ? rest : remainderBy(k, rest, axis.extent) });
    if (!last) rest = divideBy(k, rest, axis.extent);
  }
  return found.reverse();
}

/** Elements from the start of the buffer: Σ coef·position + constant. */
export function offsetOf(k: PtxKernel, x: Linear, positions: Positions): Reg {
  return positions.reduce(
    (sum, { axis, at }) => {
      const coef = coefOf(x, axis.name);
      return coef === 0 ? sum : k.op('mad.lo.s32', at, coef, sum);
    },
    k.op('mov.b32', x.constant),
  );
}

/** Over the four lanes that share a row. */
export function acrossPairs({ k }: AttendContext, x: Reg, op: 'max.f32' | 'add.f32'): Reg {
  return [1, 2].reduce((value, mask) => {
    const other = k.op('shfl.sync.bfly.b32', k.op('mov.b32#ofF32', value), mask, 31, 0xffffffff);
    return k.op(op, value, k.op('mov.b32#toF32', other));
  }, x);
}

/** e^(a - b) of two greatest scores. */
export function powerOf({ k, shape }: AttendContext, a: Reg, b: Reg): Reg {
  const less = k.op('sub.f32', a, b);
  return k.op('ex2.approx.ftz.f32', shape.scale === undefined ? k.op('mul.f32', less, Math.LOG2E) : less);
}
