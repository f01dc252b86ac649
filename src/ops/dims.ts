/**
 * What inference and upgrades of many operators share: checked axes, small integer inputs, products and quotients of dims.
 *
 * An integer input (a shape, axes, pads) is known when it is a constant or when shape arithmetic tells it; a dim may then be
 * symbolic. INT64 extremes, which exporters write for "to the end", become large numbers: callers clamp.
 */
import { type DType, isFloat } from '../core/dtype.ts';
import { type Dim, dimsEqual, floorDivDims, mulDims, normalizeAxis, type Shape } from '../core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import type { RawNode, UpgradeContext } from './op.ts';

type Fails = Pick<InferContext, 'fail'>;

/** The axis counted from the front. Throws through ctx.fail outside [-rank, rank). */
export function checkAxis(ctx: Fails, axis: number, rank: number): number {
  return normalizeAxis(axis, rank) ?? ctx.fail(`axis ${axis} is outside [${-rank}, ${rank})`);
}

/** Axes counted from the front, each once. Throws through ctx.fail where one is out of range or named twice. */
export function checkAxes(ctx: Fails, axes: readonly number[], rank: number): readonly number[] {
  const out = axes.map((a) => checkAxis(ctx, a, rank));
  if (new Set(out).size !== out.length) ctx.fail(`axes [${axes.join(',')}] name one axis twice`);
  return out;
}

/** Throws through ctx.fail unless all inputs that are there have one element type. */
export function checkOneType(ctx: InferContext<unknown>): void {
  const other = ctx.inputs.findIndex((type) => type && type.dtype !== ctx.input(0).dtype);
  if (other > 0) ctx.fail(`inputs 0 and ${other} must have one element type`);
}

/** Whether inputs 0 and 1 are bytes, signed or not each by itself, whose products are summed in i32; what else there is must be i32. */
export function areBytes(ctx: InferContext<unknown>): boolean {
  const [a, b, ...others] = ctx.inputs.map((type) => type?.dtype);
  const isByte = (dtype: DType | undefined): boolean => dtype === 'i8' || dtype === 'u8';
  return isByte(a) && isByte(b) && others.every((dtype) => dtype === undefined || dtype === 'i32');
}

/** As checkOneType; and the type is a float. */
export function checkFloats(ctx: InferContext<unknown>): void {
  checkOneType(ctx);
  if (!isFloat(ctx.input(0).dtype)) ctx.fail(`the element type is ${ctx.input(0).dtype}, expected a float`);
}

/** Throws through ctx.fail unless these inputs have one element type, a float; absent ones are skipped. */
export function checkFloatInputs(ctx: InferContext<unknown>, inputs: readonly number[]): void {
  const { dtype } = ctx.input(inputs[0]);
  if (!isFloat(dtype)) ctx.fail(`input ${inputs[0]} is ${dtype}, expected a float`);
  const other = inputs.find((i) => ctx.inputs[i] && ctx.inputs[i].dtype !== dtype);
  if (other !== undefined) ctx.fail(`inputs ${inputs[0]} and ${other} must have one element type`);
}

/** All elements of an integer tensor as numbers; beyond 2^53 rounded, which keeps them "very large". */
export const intsOf = (t: Tensor): readonly number[] => Array.from(toNumbers(t));

/** Longer constants are data, not sizes. */
const MOST_SIZES = 1024;

/** The elements of integer input i as dims, symbolic ones too; undefined where they are unknown, no sizes, or the input is absent. */
export function dimsInput(ctx: InferContext<unknown>, i: number): Shape | undefined {
  if (ctx.inputs[i] === undefined) return undefined;
  const value = ctx.constant(i);
  if (!value) return ctx.dims(i);
  return isFloat(value.dtype) || value.data.length > MOST_SIZES ? undefined : intsOf(value);
}

/** The elements of integer input i where they are known as numbers; undefined as for dimsInput, or where one is symbolic. */
export function intsInput(ctx: InferContext<unknown>, i: number): readonly number[] | undefined {
  const dims = dimsInput(ctx, i);
  return dims?.every((d) => typeof d === 'number') ? dims : undefined;
}

/** An inferDims: f over the dims of all inputs, single ones being repeated; undefined where f is for one of them. */
export const dimwise =
  (f: (...dims: Dim[]) => Dim | undefined) =>
  (ctx: InferContext<unknown>): Shape | undefined => {
    const lists: Shape[] = [];
    for (const i of ctx.inputs.keys()) {
      const dims = dimsInput(ctx, i);
      if (!dims) return undefined;
      lists.push(dims);
    }
    const lengths = new Set(lists.map((dims) => dims.length).filter((n) => n !== 1));
    if (lengths.size > 1) return undefined;
    const [length = 1] = lengths;
    const out: Dim[] = [];
    for (let i = 0; i < length; i++) {
      const dim = f(...lists.map((dims) => dims[dims.length === 1 ? 0 : i]));
      if (dim === undefined) return undefined;
      out.push(dim);
    }
    return out;
  };

/** Sizes that are not known to differ. */
export const mayBeEqual = (a: Dim, b: Dim): boolean => typeof a !== 'number' || typeof b !== 'number' || a === b;

/** How many elements a rank-1 integer input has. Throws through ctx.fail where it is no vector or its length is open. */
export function vectorLength(ctx: InferContext<unknown>, i: number): number {
  const { shape } = ctx.input(i);
  const length = shape.length === 1 ? shape[0] : undefined;
  if (typeof length !== 'number') return ctx.fail(`input ${i} must be a vector of known length`);
  return length;
}

export const product = (dims: Shape): Dim => dims.reduce((a, b) => mulDims(a, b), 1);

/** product(numerator) / product(denominator), equal dims cancelled first so that symbolic ones can divide exactly. */
export function quotient(numerator: Shape, denominator: Shape): Dim {
  const rest = [...numerator];
  const below: Dim[] = [];
  for (const d of denominator) {
    const at = rest.findIndex((x) => dimsEqual(x, d));
    if (at >= 0) rest.splice(at, 1);
    else below.push(d);
  }
  const divisor = product(below);
  return divisor === 0 ? 0 : floorDivDims(product(rest), divisor);
}

/** An i64 vector. */
export const i64Vector = (values: readonly number[]): Tensor => fromNumbers('i64', [values.length], values);

/** A node whose attribute `name`, if present, has become the constant input at `position`; absent inputs before it are ''. */
export function attrToInput(
  node: RawNode,
  ctx: UpgradeContext,
  name: string,
  position: number,
  make: (value: readonly number[]) => Tensor = i64Vector,
): RawNode {
  const { [name]: value, ...attrs } = node.attrs;
  if (value === undefined) return node;
  const inputs = [...node.inputs];
  while (inputs.length < position) inputs.push('');
  inputs[position] = ctx.constant(make(typeof value === 'number' ? [value] : (value as readonly number[])));
  return { ...node, inputs, attrs };
}
