/**
 * How a generated kernel is cut up: which axis lies in the lanes, which make the tiles, which are loops inside one.
 *
 *     tile = point of tileAxes [, chunk of the lane axis]      threads take ranges of tiles
 *     inside: loops over innerAxes, then the lane axis
 *
 * Outer axes are taken until there are enough tiles to balance threads; the lane axis stays whole unless there are too few.
 */
import { DTYPES } from '../../core/dtype.ts';
import type { Axis, Expr, Kernel } from '../../loop/ir.ts';
import { legalizeKernel } from '../../loop/legalize.ts';
import { keepRowValues } from './keep-row-values.ts';
import { chooseLaneAxis, type LaneFacts } from './lanes.ts';
import { ExprTable } from './linear.ts';
import { mergeAxes } from './merge-axes.ts';
import { CPU_OPS } from './scalar-ops.ts';
import { eachExpr, eachStmt } from './walk.ts';

export interface NestPlan {
  /** Legalized, with its axes merged. */
  readonly kernel: Kernel;
  readonly lanes: Axis | undefined;
  readonly tileAxes: readonly Axis[];
  readonly innerAxes: readonly Axis[];
  /** Elements of the lane axis in a tile; 0: all. */
  readonly chunk: number;
  readonly tiles: number;
}

const ENOUGH_TILES = 64;
const FEW_TILES = 16;
/** Smallest chunk worth a tile of its own, in elements. */
const LEAST_CHUNK = 1024;

const plans = new WeakMap<Kernel, Map<number, NestPlan>>();

/** Depends on the kernel and the number of 32-bit lanes only, so tiles can be counted without emitting. */
export function planNest(kernel: Kernel, lanes: number): NestPlan {
  const byLanes = plans.get(kernel) ?? new Map<number, NestPlan>();
  plans.set(kernel, byLanes);
  const known = byLanes.get(lanes);
  if (known) return known;
  const plan = makePlan(mergeAxes(legalizeKernel(keepRowValues(kernel), CPU_OPS)), lanes);
  byLanes.set(lanes, plan);
  return plan;
}

function makePlan(kernel: Kernel, width: number): NestPlan {
  const facts = { table: new ExprTable(), buffers: new Map(kernel.buffers.map((b) => [b.name, b])) };
  const lanes = chooseLaneAxis(facts, kernel.axes, kernel.body, width);
  const others = lanes ? kernel.axes.filter((a) => a !== lanes) : byLines(facts, kernel);
  let taken = 0;
  let tiles = 1;
  while (taken < others.length && tiles < ENOUGH_TILES) {
    // A tile of one point would be most of its work.
    if (!lanes && taken === others.length - 1 && tiles >= FEW_TILES) break;
    tiles *= others[taken++].extent;
  }
  const tileAxes = others.slice(0, taken);
  const innerAxes = others.slice(taken);
  const plan = { kernel, lanes, tileAxes, innerAxes };
  if (!lanes || innerAxes.length > 0 || tiles === 0) return { ...plan, chunk: 0, tiles };
  const wanted = Math.ceil(ENOUGH_TILES / tiles);
  const chunk = roundUp(Math.max(LEAST_CHUNK, Math.ceil(lanes.extent / wanted)), 4 * width);
  const chunks = Math.ceil(lanes.extent / chunk);
  // Without tile axes the chunks of a range are one loop, so a single chunk costs nothing.
  if (chunks === 1 && tileAxes.length > 0) return { ...plan, chunk: 0, tiles };
  return { ...plan, chunk, tiles: tiles * chunks };
}

const LINE_BYTES = 64;

/**
 * The axes by how many cache lines a step along them leads to, the most first: what the innermost loop touches should be in lines that it
 * has touched before.
 */
function byLines({ table, buffers }: LaneFacts, { axes, body }: Kernel): readonly Axis[] {
  const accesses = new Map<Expr, string>();
  eachExpr(body, (x) => {
    if (x.kind === 'load') accesses.set(x.index, x.buffer);
  });
  eachStmt(body, (s) => {
    if (s.kind === 'store') accesses.set(s.index, s.buffer);
  });
  const lines = (axis: Axis): number =>
    [...accesses].reduce((sum, [index, buffer]) => {
      const stride = table.strideAlong(index, axis.name) ?? LINE_BYTES;
      return sum + Math.min(1, (Math.abs(stride) * DTYPES[buffers.get(buffer)?.dtype ?? 'f32'].bytes) / LINE_BYTES);
    }, 0);
  const weights = new Map(axes.map((axis) => [axis, lines(axis)] as const));
  return axes.toSorted((a, b) => Number(weights.get(b)) - Number(weights.get(a)));
}

const roundUp = (x: number, multiple: number): number => Math.ceil(x / multiple) * multiple;
