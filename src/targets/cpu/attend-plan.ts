/**
 * An attend as its template sees it, and how its work is cut: tiles of queries of one head, blocks of keys.
 *
 *     tile = (outer axes, block of rows);   for block of keys:  keys packed;  for group of rows:  scores, weights, sums of values
 *
 * Rows are the queries along the widest of their axes; other axes of queries are as good as heads. Keys that all tiles of a head share are
 * packed once where they are one block.
 */

import { accessIndex, withoutRole } from '../../loop/contract.ts';
import * as e from '../../loop/expr.ts';
import type { Attend, Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { legalizeKernel } from '../../loop/legalize.ts';
import type { Params } from '../target.ts';
import { extentOf, hasLimit, mayOverreach } from './contract-plan.ts';
import { type LaneFacts, laneScore } from './lanes.ts';
import { ExprTable } from './linear.ts';
import { CPU_OPS } from './scalar-ops.ts';
import { eachExpr } from './walk.ts';

export interface AttendOperand {
  readonly buffer: string;
  readonly index: Expr;
}

export interface AttendPlan {
  /** Heads: first the axes that keys move with, then those that share them. */
  readonly heads: readonly Axis[];
  readonly sharing: readonly Axis[];
  readonly rows: Axis;
  readonly key: Axis;
  readonly inner: Axis;
  readonly value: Axis;
  /** Axes of extent 1: always 0. */
  readonly fixed: readonly Axis[];
  readonly q: AttendOperand;
  readonly k: AttendOperand;
  readonly v: AttendOperand;
  /** With operations that the machine has. */
  readonly score: readonly Stmt[];
  readonly epilogue: readonly Stmt[];
  readonly empty: Attend['empty'];
  /** Whether the score reads elements that differ from key to key: they must not be read behind the last key. */
  readonly loadsByKey: boolean;
  /** Elements from one key to the next one. */
  readonly keyStride: number;
}

const plans = new WeakMap<Kernel, AttendPlan | null>();

/** Undefined where the template cannot run the kernel: no f32, a single query, values that are not contiguous, or end at an open size. */
export function planAttend(kernel: Kernel): AttendPlan | undefined {
  const known = plans.get(kernel);
  if (known !== undefined) return known ?? undefined;
  const plan = makePlan(kernel);
  plans.set(kernel, plan ?? null);
  return plan;
}

function makePlan(kernel: Kernel): AttendPlan | undefined {
  if (kernel.form.kind !== 'attend' || kernel.form.acc !== 'f32') return undefined;
  const { form } = legalizeKernel(kernel, CPU_OPS);
  if (form.kind !== 'attend' || form.axes.some((a) => a.extent === 0)) return undefined;
  if (hasLimit(form.axes.filter((a) => a.role === 'inner' || a.role === 'value' || a.extent === 1))) return undefined;
  const buffers = new Map(kernel.buffers.map((b) => [b.name, b]));
  if ([form.q, form.k, form.v].some((x) => buffers.get(x.buffer)?.dtype !== 'f32')) return undefined;
  const of = (role: Attend['axes'][number]['role']): Axis[] =>
    form.axes.filter((a) => a.role === role && a.extent > 1).map(withoutRole);
  const [key, inner, value] = [of('key')[0], of('inner')[0], of('value')[0]];
  const [rows, ...others] = of('query').sort((x, y) => y.extent - x.extent);
  if (!rows || !key || !inner || !value || of('inner').length > 1 || of('value').length > 1) return undefined;
  const [q, k, v] = [form.q, form.k, form.v].map((x) => ({ buffer: x.buffer, index: accessIndex(x) }));
  const facts: LaneFacts = { table: new ExprTable(), buffers };
  const stride = (x: AttendOperand, axis: Axis): number => facts.table.strideAlong(x.index, axis.name) ?? 0;
  if (stride(v, value) !== 1) return undefined;
  const varying = (local: string, axis: Axis): Stmt => ({
    kind: 'let',
    local,
    dtype: 'f32',
    value: e.cast('f32', e.axis(axis.name)),
  });
  if (laneScore(facts, [varying('dot', key), ...form.score], key.name) === undefined) return undefined;
  if (laneScore(facts, [varying('acc', value), ...form.epilogue], value.name) === undefined) return undefined;
  // Rows and keys behind a limit are computed where they share a tile with some before it.
  const [a, b] = [q, k].map((x) => ({ ...x, dtype: 'f32' as const, guard: undefined }));
  const statements = [...form.score, ...form.epilogue];
  if (hasLimit(form.axes) && !mayOverreach({ a, b, epilogue: statements })) return undefined;
  let loadsByKey = false;
  eachExpr(form.score, (x) => {
    if (x.kind === 'load' && facts.table.info(x.index).free.includes(key.name)) loadsByKey = true;
  });
  const batch = of('batch');
  return {
    heads: batch.filter((a) => stride(k, a) !== 0),
    sharing: [...batch.filter((a) => stride(k, a) === 0), ...others],
    rows,
    key,
    inner,
    value,
    fixed: form.axes.filter((a) => a.extent === 1),
    q,
    k,
    v,
    score: form.score,
    epilogue: form.epilogue,
    empty: form.empty,
    loadsByKey,
    keyStride: stride(k, key),
  };
}

export interface AttendBlocking {
  /** Rows of a tile, a multiple of a register tile's; tiles a head. */
  readonly rowsInTile: number;
  readonly rowBlocks: number;
  readonly tiles: number;
  /** Keys of a block but the last, and blocks. */
  readonly keysInBlock: number;
  readonly keyBlocks: number;
  /** Elements from a row of scores to the next. */
  readonly scoreStride: number;
  /** In bytes, in a thread's scratch; keys are packed at 0. */
  readonly scoresAt: number;
  /** Of each row of a tile three numbers: the greatest score, the sum of weights, what a new block leaves of the values so far. */
  readonly statesAt: number;
  /** Sums of values so far, a row each; with one block of keys they never leave registers. */
  readonly sumsAt: number;
  readonly scratchBytes: number;
}

/** Enough for threads to share out evenly. */
const ENOUGH_TILES = 16;
/** Rows for whose sake it is worth to pack keys again. */
const MOST_ROWS = 384;
const STATE_BYTES = 12;

export function blockAttend(plan: AttendPlan, { lanes, rows, width, keys }: Params): AttendBlocking {
  const m = plan.rows.extent;
  const outer = extentOf(plan.heads) * extentOf(plan.sharing);
  const wanted = Math.max(Math.ceil(ENOUGH_TILES / outer), Math.ceil(m / MOST_ROWS));
  const rowsInTile = Math.ceil(Math.ceil(m / Math.min(wanted, Math.ceil(m / rows))) / rows) * rows;
  const rowBlocks = Math.ceil(m / rowsInTile);
  const keyBlocks = Math.ceil(plan.key.extent / keys);
  const keysInBlock = keyBlocks === 1 ? plan.key.extent : keys;
  const scoreStride = Math.ceil(keysInBlock / lanes) * lanes;
  const align = (bytes: number): number => Math.ceil(bytes / 64) * 64;
  const scoresAt = align(Math.ceil(keysInBlock / width) * width * plan.inner.extent * 4);
  const statesAt = scoresAt + align(rows * scoreStride * 4);
  const sumsAt = statesAt + align(rowsInTile * STATE_BYTES);
  const sums = keyBlocks === 1 ? 0 : rowsInTile * plan.value.extent * 4;
  return {
    rowsInTile,
    rowBlocks,
    tiles: outer * rowBlocks,
    keysInBlock,
    keyBlocks,
    scoreStride,
    scoresAt,
    statesAt,
    sumsAt,
    scratchBytes: sumsAt + align(sums),
  };
}
