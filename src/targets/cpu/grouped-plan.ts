/**
 * A convolution of groups of four or eight channels, as many out as in, with channels innermost: seen as one over channels, of which each
 * output sums its group's inputs.
 *
 * The axes of groups and of outputs in a group become one of channels, in whatever the epilogue reads and writes; the inputs' summed
 * axis is gone from the index, so that `a` at a channel is the input of that number.
 */
import * as e from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { conjuncts, hasLimit, type Operand, planContract } from './contract-plan.ts';
import { insideTaps } from './depthwise.ts';
import { ExprTable } from './linear.ts';
import { eachExpr, eachStmt, exprMapper, mapStmts } from './walk.ts';

const MAX_UNROLLED_TAPS = 7;

export interface GroupedPlan {
  /** Channels of a group. */
  readonly per: number;
  readonly channel: Axis;
  readonly a: Operand;
  /** The weight's buffer; the axes by which its elements are found are the contract's. */
  readonly b: string;
  readonly group: Axis;
  readonly output: Axis;
  readonly summed: Axis;
  /** The m axis along a row of the output, and those outside. */
  readonly column: Axis;
  readonly outer: readonly Axis[];
  /** The innermost axis of the window, unrolled, and those outside. */
  readonly tap: Axis | undefined;
  readonly outerTaps: readonly Axis[];
  /** Conditions on the row, none of which depends on column or tap. */
  readonly rowGuard: Expr | undefined;
  /** For each column the taps that are inside. */
  readonly taps: readonly (readonly number[])[];
  /** Elements between input columns of neighbouring outputs, and of neighbouring taps. */
  readonly columnStride: number;
  readonly tapStride: number;
  readonly epilogue: readonly Stmt[];
}

const plans = new WeakMap<Kernel, GroupedPlan | null>();

/** Undefined where the kernel is no such convolution. */
export function planGrouped(kernel: Kernel): GroupedPlan | undefined {
  const known = plans.get(kernel);
  if (known !== undefined) return known ?? undefined;
  const plan = makePlan(kernel);
  plans.set(kernel, plan ?? null);
  return plan;
}

function makePlan(kernel: Kernel): GroupedPlan | undefined {
  const plan = planContract(kernel);
  if (plan?.batch.length !== 1 || plan.n.length !== 1 || plan.m.length === 0) return undefined;
  const [[group], [output], summed] = [plan.batch, plan.n, plan.k.at(-1)];
  const per = output.extent;
  if ((per !== 4 && per !== 8) || summed?.extent !== per) return undefined;
  const column = plan.m[plan.m.length - 1];
  if (column.limit || hasLimit([...plan.batch, ...plan.n, ...plan.k])) return undefined;
  const table = new ExprTable();
  const along = (axis: Axis | undefined): number | undefined => (axis ? table.strideAlong(plan.a.index, axis.name) : 0);
  const guards = conjuncts(plan.a.guard);
  if (along(group) !== per || along(summed) !== 1) return undefined;
  if (guards.some((g) => table.dependsOn(g, new Set([group.name, summed.name])))) return undefined;
  if (!isByChannel(table, plan.epilogue, group.name, output.name, per)) return undefined;
  const outerTaps = plan.k.slice(0, -1);
  const tap = outerTaps.pop();
  const [columnStride, tapStride] = [along(column), along(tap)];
  if ((tap?.extent ?? 1) > MAX_UNROLLED_TAPS || columnStride === undefined || tapStride === undefined) return undefined;
  if (columnStride < 0 || tapStride < 0) return undefined;
  const across = new Set([column.name, tap?.name ?? '']);
  const columnGuards = guards.filter((g) => table.dependsOn(g, across));
  if (columnGuards.some((g) => [...table.info(g).free].some((name) => !across.has(name)))) return undefined;
  const taps = insideTaps(table, columnGuards, column, tap);
  if (!taps) return undefined;
  const rowGuards = guards.filter((g) => !table.dependsOn(g, across));
  const channel: Axis = { name: output.name, extent: group.extent * per };
  const byChannel = exprMapper((x) => {
    if (x.kind !== 'axis') return x;
    return x.name === group.name ? e.index(0) : x.name === summed.name ? e.axis(channel.name) : x;
  });
  return {
    per,
    channel,
    a: { ...plan.a, index: byChannel(plan.a.index) },
    b: plan.b.buffer,
    group,
    output,
    summed,
    column,
    outer: plan.m.slice(0, -1),
    tap,
    outerTaps,
    rowGuard: rowGuards.length === 0 ? undefined : rowGuards.reduce((a, b) => e.binary('and', a, b)),
    taps,
    columnStride,
    tapStride,
    epilogue: mapStmts(plan.epilogue, byChannel),
  };
}

/** Whether group and output move all that the statements read and write as one axis of channels would. */
function isByChannel(table: ExprTable, epilogue: readonly Stmt[], group: string, output: string, per: number): boolean {
  let holds = true;
  const indices = new Set<Expr>();
  const index = (x: Expr): void => {
    indices.add(x);
    const [byGroup, byOutput] = [table.strideAlong(x, group), table.strideAlong(x, output)];
    if (byGroup === undefined || byOutput === undefined || byGroup !== per * byOutput) holds = false;
  };
  eachStmt(epilogue, (s) => {
    if (s.kind === 'store') index(s.index);
    else if (s.kind !== 'let') holds = false;
  });
  eachExpr(epilogue, (x) => {
    if (x.kind === 'load') index(x.index);
  });
  // Elsewhere the two axes may not stand: within an index is where they may.
  const elsewhere = (x: Expr): void => {
    if (indices.has(x)) return;
    if (x.kind === 'axis' && (x.name === group || x.name === output)) holds = false;
    e.children(x).forEach(elsewhere);
  };
  for (const s of epilogue) if (s.kind === 'store' || s.kind === 'let') elsewhere(s.value);
  return holds;
}
