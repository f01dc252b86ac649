/**
 * A contract as a micro-kernel sees it: axes merged and sorted by role, each operand a load with an index and perhaps a guard.
 *
 * Read from the kernel's body, which contractKernel derives from the form, after neighbouring axes were merged where memory cannot
 * tell them apart: an unpadded convolution of 1×1 becomes a plain matrix product, whatever its rank. An axis belongs to the operands
 * that move with it: both, batch; a alone, m; b alone, n.
 */
import * as e from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { legalizeKernel } from '../../loop/legalize.ts';
import { ExprTable } from './linear.ts';
import { mergeAxes, mergeReduce } from './merge-axes.ts';
import { CPU_OPS } from './scalar-ops.ts';
import { eachStmt, exprsOf } from './walk.ts';

export interface Operand {
  readonly buffer: string;
  readonly index: Expr;
  /** Where it is false the element is 0; absent: always inside. */
  readonly guard: Expr | undefined;
}

export interface ContractPlan {
  readonly batch: readonly Axis[];
  readonly m: readonly Axis[];
  readonly n: readonly Axis[];
  /** Outermost first; together they run in the order of the form's k axes. */
  readonly k: readonly Axis[];
  readonly a: Operand;
  readonly b: Operand;
  readonly epilogue: readonly Stmt[];
}

export const extentOf = (axes: readonly Axis[]): number => axes.reduce((n, a) => n * a.extent, 1);

/** Whether some axis ends at a size that only running tells. */
export const hasLimit = (axes: readonly Axis[]): boolean => axes.some((a) => a.limit);

/**
 * Whether a register tile may reach over the limit of m or n, into points that nobody reads: what it loads and stores there is inside
 * its buffers, as long as no index is itself an element of memory.
 */
export function mayOverreach({ a, b, epilogue }: ContractPlan): boolean {
  let plain = true;
  const within = (x: Expr): void => {
    if (x.kind === 'load' && x.index.kind !== 'const') plain = false;
    e.children(x).forEach(within);
  };
  const visit = (x: Expr): void => {
    if (x.kind === 'load') within(x.index);
    else e.children(x).forEach(visit);
  };
  within(a.index);
  within(b.index);
  eachStmt(epilogue, (s) => {
    if (s.kind === 'store') within(s.index);
    exprsOf(s).forEach(visit);
  });
  return plain;
}

const plans = new WeakMap<Kernel, ContractPlan | null>();

/** Undefined where the kernel is no f32 contract, is empty, or b is padded. */
export function planContract(kernel: Kernel): ContractPlan | undefined {
  const known = plans.get(kernel);
  if (known !== undefined) return known ?? undefined;
  const plan = makePlan(kernel);
  plans.set(kernel, plan ?? null);
  return plan;
}

function makePlan(kernel: Kernel): ContractPlan | undefined {
  if (kernel.form.kind !== 'contract' || kernel.form.acc !== 'f32') return undefined;
  if (kernel.form.axes.some((a) => a.extent === 0)) return undefined;
  const { a, b } = kernel.form;
  const isF32 = (name: string) => kernel.buffers.find((x) => x.name === name)?.dtype === 'f32';
  if (!isF32(a.buffer) || !isF32(b.buffer)) return undefined;
  const { axes, body } = mergeAxes(legalizeKernel(kernel, CPU_OPS));
  const sum = body[0];
  if (sum.kind !== 'reduce' || sum.value.kind !== 'binary' || sum.value.op !== 'mul') return undefined;
  const operands = [operandOf(sum.value.a), operandOf(sum.value.b)];
  if (!operands[0] || !operands[1] || operands[1].guard) return undefined;
  const table = new ExprTable();
  const moves = (operand: Operand, axis: Axis) =>
    [operand.index, ...(operand.guard ? [operand.guard] : [])].some((x) => table.info(x).free.has(axis.name));
  const [left, right] = operands;
  const inA = (axis: Axis) => moves(left, axis);
  const inB = (axis: Axis) => moves(right, axis);
  return {
    batch: axes.filter((x) => inA(x) && inB(x)),
    m: axes.filter((x) => inA(x) && !inB(x)),
    n: axes.filter((x) => !inA(x)),
    k: sum.axes,
    a: left,
    b: right,
    epilogue: body.slice(1),
  };
}

/** The conditions that a guard joins by `and`. */
export function conjuncts(guard: Expr | undefined): Expr[] {
  if (!guard) return [];
  return guard.kind === 'binary' && guard.op === 'and' ? [...conjuncts(guard.a), ...conjuncts(guard.b)] : [guard];
}

/** The plan where a's guard is known to hold: k axes merge that the guard kept apart. */
export function unpadded(plan: ContractPlan): ContractPlan {
  const load = (o: Operand) => e.load(o.buffer, 'f32', o.index);
  const merged = mergeReduce(plan.k, e.mul(load(plan.a), load(plan.b)));
  const value = merged.value.kind === 'binary' ? merged.value : undefined;
  const [a, b] = [value && operandOf(value.a), value && operandOf(value.b)];
  return a && b ? { ...plan, k: merged.axes, a, b } : plan;
}

function operandOf(x: Expr): Operand | undefined {
  if (x.kind === 'load') return { buffer: x.buffer, index: x.index, guard: undefined };
  if (x.kind === 'select' && x.a.kind === 'load' && x.b.kind === 'const' && x.b.value === 0) {
    return { buffer: x.a.buffer, index: x.a.index, guard: x.cond };
  }
  return undefined;
}
