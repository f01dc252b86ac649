/**
 * A contract as a micro-kernel sees it: axes merged and sorted by role, each operand a load with an index and perhaps a guard.
 *
 * Read from the kernel's body, which contractKernel derives from the form, after neighbouring axes were merged where memory cannot
 * tell them apart: an unpadded convolution of 1×1 becomes a plain matrix product, whatever its rank. An axis belongs to the operands
 * that move with it: both, batch; a alone, m; b alone, n.
 */
import type { DType } from '../../core/dtype.ts';
import * as e from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { legalizeKernel } from '../../loop/legalize.ts';
import { ExprTable } from './linear.ts';
import { mergeAxes, mergeReduce } from './merge-axes.ts';
import { CPU_OPS } from './scalar-ops.ts';
import { eachStmt, exprsOf } from './walk.ts';

export interface Operand {
  readonly buffer: string;
  readonly dtype: DType;
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
 * Whether a register tile may reach over the limit of n, into points that nobody reads: what it loads and stores there is inside
 * its buffers, as long as no index is itself an element of memory.
 */
export function mayOverreach({ a, b, epilogue }: Pick<ContractPlan, 'a' | 'b' | 'epilogue'>): boolean {
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
export const planContract = (kernel: Kernel): ContractPlan | undefined => planOfOperands(kernel, ['f32'], ['f32']);

/** As planContract, for bytes summed in i32, b signed. k axes are merged as a allows: b must be packed in their order. */
export const planBytes = (kernel: Kernel): ContractPlan | undefined => planOfOperands(kernel, ['i8', 'u8'], ['i8']);

function planOfOperands(kernel: Kernel, ofA: readonly DType[], ofB: readonly DType[]): ContractPlan | undefined {
  const { form } = kernel;
  if (form.kind !== 'contract' || form.acc !== (ofA.includes('f32') ? 'f32' : 'i32')) return undefined;
  const has = (name: string, dtypes: readonly DType[]) =>
    kernel.buffers.some((x) => x.name === name && dtypes.includes(x.dtype));
  if (!has(form.a.buffer, ofA) || !has(form.b.buffer, ofB)) return undefined;
  const known = plans.get(kernel);
  if (known !== undefined) return known ?? undefined;
  const plan = makePlan(kernel);
  const merged = plan && form.acc === 'i32' ? mergedByA(plan) : plan;
  plans.set(kernel, merged ?? null);
  return merged;
}

function mergedByA(plan: ContractPlan): ContractPlan {
  const { a } = plan;
  const load = e.load(a.buffer, a.dtype, a.index);
  const read = a.guard ? e.select(a.guard, load, e.constant(a.dtype, 0)) : load;
  const { axes, value } = mergeReduce(plan.k, read);
  const merged = operandOf(value);
  return merged ? { ...plan, k: axes, a: merged } : plan;
}

function makePlan(kernel: Kernel): ContractPlan | undefined {
  if (kernel.form.kind !== 'contract' || kernel.form.axes.some((a) => a.extent === 0)) return undefined;
  const { axes, body } = mergeAxes(legalizeKernel(kernel, CPU_OPS));
  const sum = body[0];
  if (sum.kind !== 'reduce' || sum.value.kind !== 'binary' || sum.value.op !== 'mul') return undefined;
  const operands = [operandOf(sum.value.a), operandOf(sum.value.b)];
  if (!operands[0] || !operands[1] || operands[1].guard) return undefined;
  const table = new ExprTable();
  const moves = (operand: Operand, axis: Axis) =>
    [operand.index, ...(operand.guard ? [operand.guard] : [])].some((x) => table.info(x).free.includes(axis.name));
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
  const load = (o: Operand) => e.load(o.buffer, o.dtype, o.index);
  const merged = mergeReduce(plan.k, e.mul(load(plan.a), load(plan.b)));
  const value = merged.value.kind === 'binary' ? merged.value : undefined;
  const [a, b] = [value && operandOf(value.a), value && operandOf(value.b)];
  return a && b ? { ...plan, k: merged.axes, a, b } : plan;
}

/** A load, or one as the accumulator's dtype; 0 where a guard is false. */
function operandOf(x: Expr): Operand | undefined {
  const guard = x.kind === 'select' ? x.cond : undefined;
  if (x.kind === 'select' && !(x.b.kind === 'const' && x.b.value === 0)) return undefined;
  const element = x.kind === 'select' ? x.a : x;
  const load = element.kind === 'cast' ? element.x : element;
  return load.kind === 'load' ? { buffer: load.buffer, dtype: load.dtype, index: load.index, guard } : undefined;
}
