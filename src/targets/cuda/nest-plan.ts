/**
 * Who computes what of a generated kernel: a thread a point (or a few neighbouring points in lanes), or a team of threads a point.
 *
 *     points: thread = flat point / lanes, the axis that stores move along innermost, so that neighbours touch neighbours
 *     row:    a team takes a point whose reductions run along memory (softmax and norms of rows)
 *     column: points lie next to each other in memory and there are too few of them (pooling of channels-last tensors)
 *
 * A routine, whose loops run in order, is a thread a point, or a warp where something in it is reduced over many elements: all lanes go the
 * same way then and take shares of the reductions.
 *
 * Depends on the kernel alone, so that the same choice is made when times are predicted and when code is written.
 */
import { DTYPES } from '../../core/dtype.ts';
import { children, conditionOf } from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { legalizeKernel } from '../../loop/legalize.ts';
import { ExprTable } from '../cpu/linear.ts';
import { mergeAxes } from '../cpu/merge-axes.ts';
import { eachExpr, eachStmt } from '../cpu/walk.ts';
import { divisorOf, isPoint } from './limits.ts';
import { mostElements } from './registers.ts';
import { CUDA_OPS } from './scalar-ops.ts';

export interface NestPlan {
  /** Legalized, with its axes merged. */
  readonly kernel: Kernel;
  readonly shape: 'points' | 'row' | 'column';
  /** Outermost first; the last varies fastest from thread to thread. */
  readonly axes: readonly Axis[];
  readonly points: number;
  /** Points of a thread, or iterations that a team's thread takes at once. */
  readonly lanes: number;
  /** Threads of a block that compute one point, and how many blocks share it where the chip has clusters. */
  readonly threads: number;
  readonly spread: number;
  /** Threads of a block. */
  readonly block: number;
  /** Statements read what those before them stored: a team, then one warp, waits for itself around stores. */
  readonly ordered?: true;
}

/** About what fills the larger GPUs: threads beyond bring little. */
const ENOUGH_THREADS = 65_536;
const FEW_THREADS = 16_384;
const POINTS_BLOCK = 128;
/** Threads of a block of teams that meet within a warp; larger teams have blocks of their own. */
const ROW_BLOCK = 128;
const WARP = 32;
const MOST_EVEN_TURNS = 4;
const ENOUGH_BLOCKS = 256;
const COLUMN_WIDTH = 32;
const LEAST_WIDTH = 8;
/** Blocks that a cluster has on every chip with clusters. */
const MOST_SPREAD = 8;
/** An innermost axis as short as this is done by one thread or a few: planes that become channels side by side. */
const FEW_NEIGHBOURS = 16;
/** Elements between two threads' loads whose lines both find in the first-level cache. */
const MOST_APART = 4;
/** Buffers that stay in the caches: how they are read matters little. */
const SMALL_BYTES = 65_536;

const plans = new WeakMap<Kernel, NestPlan>();

export function planNest(kernel: Kernel): NestPlan {
  const known = plans.get(kernel);
  if (known) return known;
  const plan = makePlan(mergeAxes(legalizeKernel(kernel, CUDA_OPS)), kernel.form.kind === 'routine');
  plans.set(kernel, plan);
  return plan;
}

type Loop = Extract<Stmt, { kind: 'reduce' | 'for' }>;
interface Access {
  readonly index: Expr;
  readonly bytes: number;
  readonly most: number;
  readonly small: boolean;
}

class Facts {
  readonly table = new ExprTable();
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  #access(buffer: string, index: Expr): Access {
    const b = this.#kernel.buffers.find(({ name }) => name === buffer)!;
    const { bytes } = DTYPES[b.dtype];
    return { index, bytes, most: mostElements(b.dtype), small: b.elements * bytes <= SMALL_BYTES };
  }

  stores(stmts: readonly Stmt[]): Access[] {
    const found: Access[] = [];
    eachStmt(stmts, (s) => {
      if (s.kind === 'store') found.push(this.#access(s.buffer, s.index));
    });
    return found;
  }

  loads(stmts: readonly Stmt[]): Access[] {
    const found: Access[] = [];
    eachExpr(stmts, (x) => {
      if (x.kind === 'load') found.push(this.#access(x.buffer, x.index));
    });
    return found;
  }

  strides(accesses: readonly Access[], axis: Axis): (number | undefined)[] {
    return accesses.map(({ index }) => this.table.strideAlong(index, axis.name));
  }

  /**
   * Neighbouring elements along an axis that all accesses of the statements can take at once. Where `across` is given, the axis that
   * goes from thread to thread, loads may jump from lane to lane if those of a lane's neighbours in other threads lie side by side.
   */
  lanesAlong(stmts: readonly Stmt[], axis: Axis, across?: Axis): number {
    if (hasBranch(stmts)) return 1;
    let lanes = 8;
    let moves = false;
    const loads = this.loads(stmts);
    for (const access of [...loads, ...this.stores(stmts)]) {
      const stride = this.table.strideAlong(access.index, axis.name);
      if (across && stride !== 0 && stride !== 1 && loads.includes(access)) {
        const apart = this.table.strideAlong(access.index, across.name);
        if (apart !== undefined && apart >= 0 && apart <= MOST_APART) continue;
      }
      if (stride === undefined || (stride !== 0 && stride !== 1 && !access.small)) return 1;
      if (stride === 1) {
        lanes = Math.min(lanes, access.most);
        moves = true;
      }
    }
    while (lanes > 1 && divisorOf(axis) % lanes !== 0) lanes /= 2;
    return moves ? lanes : 1;
  }
}

const hasBranch = (stmts: readonly Stmt[]): boolean => {
  let found = false;
  eachStmt(stmts, (s) => {
    if (s.kind === 'if' || conditionOf(s)) found = true;
  });
  return found;
};

const axesOf = (s: Loop): readonly Axis[] => (s.kind === 'for' ? [s.axis] : s.axes);
const sizeOf = (axes: readonly Axis[]): number => axes.reduce((n, a) => n * a.extent, 1);
const powerOfTwo = (x: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, x)));

function makePlan(kernel: Kernel, isRoutine: boolean): NestPlan {
  const facts = new Facts(kernel);
  const points = sizeOf(kernel.axes);
  const axes = orderAxes(facts, kernel);
  const loops = teamLoops(kernel.body);
  const plan = { kernel, axes, points };
  const longest = loops.reduce((n, s) => Math.max(n, sizeOf(axesOf(s))), 0);
  if (isRoutine && longestReduce(kernel.body) >= WARP)
    return { ...plan, shape: 'row', lanes: 1, threads: WARP, spread: 1, block: WARP, ordered: true };
  if (!isRoutine && longest >= 32) {
    const team = rowPlan(facts, plan, loops, longest) ?? columnPlan(facts, plan, longest);
    if (team) return team;
  }
  const last = axes.at(-1);
  const across = last && last.extent <= FEW_NEIGHBOURS ? axes.at(-2) : undefined;
  let lanes = last ? facts.lanesAlong(kernel.body, last, across) : 1;
  while (lanes > 1 && points / lanes < FEW_THREADS) lanes /= 2;
  return { ...plan, shape: 'points', lanes, threads: 1, spread: 1, block: POINTS_BLOCK };
}

/** Axes by how far a step moves the stores, the nearest last; of equals those go last along which more loads are neighbours. */
function orderAxes(facts: Facts, kernel: Kernel): readonly Axis[] {
  const stores = facts.stores(kernel.body);
  const loads = facts.loads(kernel.body);
  const rank = kernel.axes.map((axis) => {
    const strides = facts
      .strides(stores, axis)
      .map((s) => (s === undefined || s === 0 ? Number.MAX_SAFE_INTEGER : Math.abs(s)));
    const neighbours = facts.strides(loads, axis).filter((s) => s === 1).length;
    return { axis, stride: Math.min(...strides, Number.MAX_SAFE_INTEGER), neighbours };
  });
  // The sort is stable: axes that nothing tells apart stay in their order.
  return rank.sort((x, y) => y.stride - x.stride || x.neighbours - y.neighbours).map((r) => r.axis);
}

/** The loops that a team would share out; none where some stand inside a branch or a scan, which a team runs as one. */
function teamLoops(body: readonly Stmt[]): readonly Loop[] {
  const inner = body.filter((s) => s.kind === 'if' || s.kind === 'scan');
  let nested = false;
  eachStmt(inner, (s) => {
    if (s.kind === 'reduce' || s.kind === 'for') nested = true;
  });
  return nested ? [] : body.filter((s): s is Loop => s.kind === 'reduce' || s.kind === 'for');
}

/** Points of the longest reduction, wherever it stands. */
function longestReduce(body: readonly Stmt[]): number {
  let longest = 0;
  eachStmt(body, (s) => {
    if (s.kind === 'reduce') longest = Math.max(longest, sizeOf(s.axes));
  });
  return longest;
}

type Partial = Pick<NestPlan, 'kernel' | 'axes' | 'points'>;

function rowPlan(facts: Facts, plan: Partial, loops: readonly Loop[], longest: number): NestPlan | undefined {
  let along = 0;
  let across = 0;
  let lanes = 8;
  for (const loop of loops) {
    const axis = axesOf(loop)
      .filter((a) => !isPoint(a))
      .at(-1);
    if (!axis) continue;
    const inside = loop.kind === 'for' ? loop.body : [loop];
    for (const access of facts.loads(inside)) {
      const stride = facts.table.strideAlong(access.index, axis.name);
      if (stride === 1) along++;
      else if (stride !== 0) across++;
    }
    lanes = Math.min(lanes, facts.lanesAlong(inside, axis));
  }
  if (along === 0 || across > along) return undefined;
  const units = Math.ceil(longest / lanes);
  const even = evenTeam(units);
  if (even) return { ...plan, shape: 'row', lanes, threads: even, spread: 1, block: rowBlock(plan.points * even) };
  // A few turns a thread while there are points enough, one where there are not.
  let threads = Math.min(powerOfTwo(units), Math.max(powerOfTwo(units / 8), Math.min(32, powerOfTwo(units))));
  while (threads < Math.min(512, powerOfTwo(units)) && plan.points * threads < ENOUGH_THREADS) threads *= 2;
  threads = Math.min(threads, 1024);
  const spread = threads >= 256 ? spreadOf(plan.points, units / threads) : 1;
  return { ...plan, shape: 'row', lanes, threads, spread, block: threads > 32 ? threads : ROW_BLOCK };
}

/**
 * Threads of one warp that take the same few turns each, so that no meeting goes through shared memory and what a thread loaded stays in its
 * registers; undefined where there is no such number.
 */
function evenTeam(units: number): number | undefined {
  let threads = 32;
  while (threads > 1 && units % threads !== 0) threads /= 2;
  return units / threads <= MOST_EVEN_TURNS ? threads : undefined;
}

/** Threads of a block of rows that meet within a warp: few enough for all multiprocessors to have some. */
function rowBlock(threads: number): number {
  let block = ROW_BLOCK;
  while (block > 32 && threads / block < ENOUGH_BLOCKS) block /= 2;
  return block;
}

function columnPlan(facts: Facts, plan: Partial, longest: number): NestPlan | undefined {
  const last = plan.axes.at(-1);
  if (!last || plan.points >= ENOUGH_THREADS) return undefined;
  if (!facts.strides(facts.loads(plan.kernel.body), last).includes(1)) return undefined;
  let lanes = Math.min(4, facts.lanesAlong(plan.kernel.body, last));
  while (lanes > 1 && plan.points / lanes < COLUMN_WIDTH / 4) lanes /= 2;
  const units = plan.points / lanes;
  let threads = 2;
  while (threads < 16 && threads * 4 <= longest && units * threads < ENOUGH_THREADS) threads *= 2;
  let width = COLUMN_WIDTH;
  while (width > LEAST_WIDTH && (units / width) * MOST_SPREAD < 128) width /= 2;
  while (threads * width < 512 && threads * 8 <= longest) threads *= 2;
  const spread = spreadOf(Math.ceil(units / width), longest / threads);
  return { ...plan, shape: 'column', lanes, threads, spread, block: threads * width };
}

/** Blocks to share a team of a block when there are few and each thread would have many turns. */
function spreadOf(blocks: number, turns: number): number {
  let spread = 1;
  while (spread < MOST_SPREAD && turns / spread >= 16 && blocks * spread < 128) spread *= 2;
  return spread;
}

/** Nodes of an expression, shared ones once. */
export function exprSize(x: Expr): number {
  const seen = new Set<Expr>();
  const visit = (e: Expr): void => {
    if (seen.has(e)) return;
    seen.add(e);
    children(e).forEach(visit);
  };
  visit(x);
  return seen.size;
}
