/**
 * Which axis lies in the lanes of vectors: chosen for a body so that stores and loads along it are contiguous.
 *
 * An axis is eligible where everything that varies with it fits 32-bit lanes, no condition of an `if` or a `while` varies with it, and every
 * store moves along it. Contiguous accesses speak for an axis, accesses that must be gathered lane by lane against it.
 */
import { children, conditionOf } from '../../loop/expr.ts';
import type { Axis, Buffer, Expr, Stmt } from '../../loop/ir.ts';
import type { ExprTable } from './linear.ts';
import { isVectorDType, LANE_MEMORY } from './vector-ops.ts';
import { boundNames, eachExpr, eachStmt, exprsOf, localKey } from './walk.ts';

export interface LaneFacts {
  readonly table: ExprTable;
  readonly buffers: ReadonlyMap<string, Buffer>;
}

/** Names whose value differs between lanes when `axis` lies in them: the axis, and the locals that depend on it. */
export function varyingNames(table: ExprTable, body: readonly Stmt[], axis: string): Set<string> {
  const varying = new Set([axis]);
  for (let before = 0; before !== varying.size; ) {
    before = varying.size;
    eachStmt(body, (s) => {
      if ((s.kind === 'let' || s.kind === 'reduce') && table.dependsOn(s.value, varying))
        varying.add(localKey(s.local));
    });
  }
  return varying;
}

/** How well the body runs with the axis in the lanes: higher is better, undefined where it cannot. */
export function laneScore(facts: LaneFacts, body: readonly Stmt[], axis: string): number | undefined {
  const { table, buffers } = facts;
  const varying = varyingNames(table, body, axis);
  const stride = (index: Expr): number | undefined => {
    for (const { atom } of table.linear(index).terms) {
      if (!(atom.kind === 'axis' && atom.name === axis) && table.dependsOn(atom, varying)) return undefined;
    }
    return table.strideAlong(index, axis);
  };
  let score = 0;
  let legal = true;
  eachStmt(body, (s) => {
    const condition = s.kind === 'if' ? s.cond : conditionOf(s);
    if (condition && table.dependsOn(condition, varying)) legal = false;
    if (s.kind !== 'store') return;
    if (!table.dependsOn(s.index, varying)) legal = false;
    score += stride(s.index) === 1 && comesInLanes(buffers.get(s.buffer)) ? 4 : -4;
  });
  const seen = new Set<Expr>();
  const visit = (x: Expr): void => {
    if (seen.has(x) || !table.dependsOn(x, varying)) return;
    seen.add(x);
    if (!isVectorDType(x.dtype)) legal = false;
    if (x.kind === 'load') {
      const step = stride(x.index);
      score += step === 1 && comesInLanes(buffers.get(x.buffer)) ? 1 : -2;
    }
    children(x).forEach(visit);
  };
  eachStmt(body, (s) => {
    for (const x of exprsOf(s)) visit(x);
  });
  return legal ? score : undefined;
}

const comesInLanes = (buffer: Buffer | undefined): boolean => buffer !== undefined && buffer.dtype in LANE_MEMORY;

/** The parallel axis to put in the lanes: it must make every store contiguous. Undefined: scalars, or vectors further inside. */
export function chooseLaneAxis(
  facts: LaneFacts,
  axes: readonly Axis[],
  body: readonly Stmt[],
  lanes: number,
): Axis | undefined {
  let best: Axis | undefined;
  let bestScore = 0;
  for (const axis of axes) {
    if (axis.extent < lanes || !storesContiguously(facts, body, axis.name)) continue;
    const score = laneScore(facts, body, axis.name);
    if (score !== undefined && score > bestScore) {
      best = axis;
      bestScore = score;
    }
  }
  return best;
}

function storesContiguously({ table, buffers }: LaneFacts, body: readonly Stmt[], axis: string): boolean {
  let all = true;
  eachStmt(body, (s) => {
    if (s.kind !== 'store') return;
    if (table.strideAlong(s.index, axis) !== 1 || !comesInLanes(buffers.get(s.buffer))) all = false;
  });
  return all;
}

/** True where a `for` body may run with its axis in the lanes. */
export function isLaneLoop(facts: LaneFacts, axis: Axis, body: readonly Stmt[], lanes: number): boolean {
  if (axis.extent < lanes || !storesContiguously(facts, body, axis.name)) return false;
  const score = laneScore(facts, body, axis.name);
  return score !== undefined && score > 0;
}

/** True where a reduction of `value` may keep partial results in lanes along `axis`: some load is contiguous, none gathered. */
export function isLaneReduce(facts: LaneFacts, axis: Axis, value: Expr, lanes: number): boolean {
  if (axis.extent < 2 * lanes || !isVectorDType(value.dtype) || value.dtype === 'bool') return false;
  const score = laneScore(facts, [{ kind: 'let', local: '', dtype: value.dtype, value }], axis.name);
  return score !== undefined && score > 0;
}

/** Rough number of operations of a body run once. */
export function bodySize(body: readonly Stmt[]): number {
  let size = 0;
  eachExpr(body, (x) => {
    if (x.kind !== 'const' && x.kind !== 'axis' && x.kind !== 'local') size += x.dtype === 'i32' ? 0.5 : 1;
  });
  return size + boundNames(body).size * 0.5;
}
