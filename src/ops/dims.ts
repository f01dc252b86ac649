/**
 * What inference and upgrades of many operators share: checked axes, small integer inputs, products and quotients of dims.
 *
 * An integer input (a shape, axes, pads) is known when it is a constant or when shape arithmetic tells it; a dim may then be
 * symbolic. INT64 extremes, which exporters write for "to the end", become large numbers: callers clamp.
 */
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

/** All elements of an integer tensor as numbers; beyond 2^53 rounded, which keeps them "very large". */
export const intsOf = (t: Tensor): readonly number[] => Array.from(toNumbers(t));

/** The elements of integer input i where they are known as numbers; undefined where they are not, or the input is absent. */
export function intsInput(ctx: InferContext<unknown>, i: number): readonly number[] | undefined {
  if (ctx.inputs[i] === undefined) return undefined;
  const value = ctx.constant(i);
  if (value) return intsOf(value);
  const dims = ctx.dims(i);
  return dims?.every((d) => typeof d === 'number') ? dims : undefined;
}

/** The elements of integer input i as dims, symbolic ones too; undefined where they are unknown or the input is absent. */
export function dimsInput(ctx: InferContext<unknown>, i: number): Shape | undefined {
  if (ctx.inputs[i] === undefined) return undefined;
  const value = ctx.constant(i);
  return value ? intsOf(value) : ctx.dims(i);
}

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
