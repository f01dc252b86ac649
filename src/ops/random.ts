/**
 * Random numbers: RandomUniform, RandomNormal (…Like), Bernoulli, Multinomial.
 *
 * An element is a function of the seed and of its position alone: the same in every run, on every target and for any number of
 * threads. So results can be compared, and a run repeated. A node without a seed gets one from the name of its output, so that two such
 * nodes differ. Bits are a hash of the position (multiply and xor-shift, of full period); normal numbers by Box and Muller.
 *
 *     u = (hash >> 8 + ½) / 2^24        z = √(−2 ln u) · cos(2π u')
 */
import type { DType } from '../core/dtype.ts';
import { elements, rowMajorStrides, type Shape, type StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, binary, cast, constant, index, mul, select, unary } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { defineComposite } from './composite.ts';
import { CUMULATIVE_OPS } from './cumulative.ts';
import { checkFloats } from './dims.ts';
import { evalElementwise, FLOATS } from './elementwise.ts';
import {
  type AttrSpecs,
  type AttrsOf,
  defineOp,
  dtypeAttr,
  float,
  int,
  ints,
  type LowerContext,
  type Op,
  type OpCase,
  type RawNode,
} from './op.ts';

const u32 = (value: number): Expr => constant('u32', value >>> 0);

/** Every bit of the result depends on every bit of x. */
function mix(x: Expr): Expr {
  const shifted = (v: Expr, by: number): Expr => binary('bitxor', v, binary('shr', v, u32(by)));
  return shifted(mul(shifted(mul(shifted(x, 16), u32(0x7feb352d)), 15), u32(0x846ca68b)), 16);
}

/** The bits of the seed as float32. */
const bitsOf = (seed: number): number => new Uint32Array(Float32Array.of(seed).buffer)[0];
/** Stream s of a seed starts where the hash of both says; neighbouring streams have nothing in common. */
const GOLDEN = 0x9e3779b9;

/** Stream `stream` at a position (u32): an f32 above 0 and below 1. */
function uniform(position: Expr, seed: number, stream = 0): Expr {
  const key = mix(binary('bitxor', u32(bitsOf(seed)), u32(Math.imul(stream + 1, GOLDEN))));
  const bits = binary('shr', mix(binary('bitxor', mix(position), key)), u32(8));
  return mul(add(cast('f32', bits), constant('f32', 0.5)), constant('f32', 2 ** -24));
}

/** A normal number of mean 0 and deviation 1, in f32. */
function normal(position: Expr, seed: number): Expr {
  const radius = unary('sqrt', mul(constant('f32', -2), unary('log', uniform(position, seed, 0))));
  return mul(radius, unary('cos', mul(constant('f32', 2 * Math.PI), uniform(position, seed, 1))));
}

/** ONNX has no seed where the runtime may choose; here it is chosen when the model is read. */
const SEED_ATTRS = { seed: float.required, dtype: dtypeAttr.optional } as const;
const NORMAL_ATTRS = { ...SEED_ATTRS, mean: float(0), scale: float(1) } as const;
const UNIFORM_ATTRS = { ...SEED_ATTRS, low: float(0), high: float(1) } as const;
const f32 = (value: number): Expr => constant('f32', value);

const normalExpr = (at: Expr, { seed, mean, scale }: AttrsOf<typeof NORMAL_ATTRS>): Expr =>
  add(mul(normal(at, seed), f32(scale)), f32(mean));
const uniformExpr = (at: Expr, { seed, low, high }: AttrsOf<typeof UNIFORM_ATTRS>): Expr =>
  add(mul(uniform(at, seed), f32(high - low)), f32(low));

/** A seed from the output's name where there is none (FNV-1a, of as many bits as a float32 holds). */
function seeded(node: RawNode): RawNode {
  if (node.attrs.seed !== undefined) return node;
  let hash = 0x811c9dc5;
  for (const char of node.outputs.join(' ')) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  return { ...node, attrs: { ...node.attrs, seed: hash >>> 8 } };
}

interface RandomDef<S extends AttrSpecs> {
  readonly name: string;
  readonly since: number;
  readonly attrs: S;
  readonly inputs: 0 | 1;
  /** Whether an element depends on the input's; otherwise only its type counts. */
  readonly readsInput?: boolean;
  type(ctx: InferContext<AttrsOf<S>>): { readonly dtype: DType; readonly shape: Shape };
  /** The element at a position, given that of the input. */
  expr(position: Expr, attrs: AttrsOf<S>, x: Expr | undefined): Expr;
  readonly cases: readonly OpCase[];
}

function defineRandom<S extends AttrSpecs>(def: RandomDef<S>): Op {
  const { name, since, attrs, inputs, readsInput = false, expr, cases } = def;
  return defineOp<S>({
    name,
    onnx: { since, upgrade: seeded },
    attrs,
    inputs: [inputs, inputs],
    traits: { impure: true },
    infer: (ctx) => [def.type(ctx)],
    eval([x], settings, [out]) {
      const args = [positions(out.shape), ...(readsInput && x ? [x] : [])];
      const element = ([at, value]: readonly Expr[], s: AttrsOf<S>, to: DType) => cast(to, expr(at, s, value));
      return [evalElementwise(element, args, settings, out)];
    },
    lower: {
      kind: 'index',
      read(ctx, _, coords) {
        const x = readsInput ? ctx.load(0, coords) : undefined;
        return cast(ctx.outputs[0].dtype, expr(positionOf(ctx, coords), ctx.attrs, x));
      },
    },
    cases,
  });
}

const positions = (shape: StaticShape): Tensor => {
  const count = elements(shape);
  return { dtype: 'u32', shape, data: Uint32Array.from({ length: count }, (_, i) => i) };
};

const positionOf = (ctx: LowerContext<unknown>, coords: readonly Expr[]): Expr => {
  const strides = rowMajorStrides(ctx.outputs[0].shape);
  return cast(
    'u32',
    coords.reduce<Expr>((sum, c, d) => add(sum, mul(c, index(strides[d]))), index(0)),
  );
};

const FLOAT_DTYPES: readonly DType[] = FLOATS;

function checkDType(ctx: InferContext<unknown>, dtype: DType): DType {
  return FLOAT_DTYPES.includes(dtype) ? dtype : ctx.fail(`dtype is ${dtype}, expected a float`);
}

type DTypeAttr = { readonly dtype: DType | undefined };
/** The type where the shape is an attribute, and where it is the input's. */
const generatedType = (ctx: InferContext<DTypeAttr & { readonly shape: readonly number[] }>) => ({
  dtype: checkDType(ctx, ctx.attrs.dtype ?? 'f32'),
  shape: ctx.attrs.shape,
});
const likeType = (ctx: InferContext<DTypeAttr>) => ({
  dtype: checkDType(ctx, ctx.attrs.dtype ?? ctx.input(0).dtype),
  shape: ctx.input(0).shape,
});

const generatedCases = (settings: OpCase['attrs']): readonly OpCase[] => [
  { name: 'defaults', attrs: { seed: 0, shape: [3, 7] }, inputs: [] },
  { name: 'settings', attrs: { ...settings, seed: 5, shape: [2, 5, 3] }, inputs: [] },
  { name: 'f16', attrs: { dtype: 'f16', seed: 1.5, shape: [11] }, inputs: [] },
];
const likeCases = (settings: OpCase['attrs']): readonly OpCase[] => [
  { name: 'defaults', attrs: { seed: 0 }, inputs: [{ dtype: 'f32', shape: [2, 3] }] },
  { name: 'settings', attrs: { ...settings, dtype: 'f32', seed: 3 }, inputs: [{ dtype: 'i32', shape: [7] }] },
];

const SHAPED_NORMAL_ATTRS = { ...NORMAL_ATTRS, shape: ints.required } as const;
const SHAPED_UNIFORM_ATTRS = { ...UNIFORM_ATTRS, shape: ints.required } as const;
const randomNormal = defineRandom<typeof SHAPED_NORMAL_ATTRS>({
  name: 'RandomNormal',
  since: 1,
  attrs: SHAPED_NORMAL_ATTRS,
  inputs: 0,
  type: generatedType,
  expr: normalExpr,
  cases: generatedCases({ mean: 10, scale: 0.5 }),
});
const randomNormalLike = defineRandom({
  name: 'RandomNormalLike',
  since: 1,
  attrs: NORMAL_ATTRS,
  inputs: 1,
  type: likeType,
  expr: normalExpr,
  cases: likeCases({ mean: -1, scale: 2 }),
});
const randomUniform = defineRandom<typeof SHAPED_UNIFORM_ATTRS>({
  name: 'RandomUniform',
  since: 1,
  attrs: SHAPED_UNIFORM_ATTRS,
  inputs: 0,
  type: generatedType,
  expr: uniformExpr,
  cases: generatedCases({ low: -2, high: 3 }),
});
const randomUniformLike = defineRandom({
  name: 'RandomUniformLike',
  since: 1,
  attrs: UNIFORM_ATTRS,
  inputs: 1,
  type: likeType,
  expr: uniformExpr,
  cases: likeCases({ low: 4, high: 5 }),
});

const bernoulli = defineRandom({
  name: 'Bernoulli',
  since: 15,
  attrs: SEED_ATTRS,
  inputs: 1,
  readsInput: true,
  type(ctx) {
    checkFloats(ctx);
    const { dtype, shape } = ctx.input(0);
    return { dtype: ctx.attrs.dtype ?? dtype, shape };
  },
  expr: (at, { seed }, x) =>
    select(binary('lt', uniform(at, seed), cast('f32', x as Expr)), constant('i32', 1), constant('i32', 0)),
  cases: [
    { name: 'same type', attrs: { seed: 2 }, inputs: [{ dtype: 'f32', shape: [3, 17], range: [0, 1] }] },
    { name: 'to i64', attrs: { seed: 0, dtype: 'i64' }, inputs: [{ dtype: 'f32', shape: [23], range: [0, 1] }] },
    { name: 'never and always', attrs: { seed: 6 }, inputs: [fromNumbers('f32', [4], [0, 1, 0, 1])] },
  ],
});

/** Draws classes with given (unnormalised) logarithms of probability: how many of the running sums a uniform number exceeds. */
const multinomial = defineComposite({
  name: 'Multinomial',
  onnx: { since: 7, upgrade: seeded },
  attrs: { ...SEED_ATTRS, sample_size: int(1) },
  inputs: [1, 1],
  rounding: 'each',
  uses: [randomUniform, ...CUMULATIVE_OPS],
  traits: { impure: true },
  infer(ctx) {
    checkFloats(ctx);
    const { shape } = ctx.input(0);
    const { dtype = 'i32', sample_size: samples } = ctx.attrs;
    if (shape.length !== 2) ctx.fail(`the input has rank ${shape.length}, expected [batch, classes]`);
    if (dtype !== 'i32' && dtype !== 'i64') ctx.fail(`dtype is ${dtype}, expected i32 or i64`);
    return [{ dtype, shape: [shape[0], samples] }];
  },
  write({ w, input, type, attrs }) {
    const [batch, classes] = type(0).shape;
    const { dtype = 'i32', sample_size: samples, seed } = attrs;
    const probabilities = w.node('Softmax', [w.cast(input(0), 'f32')], { axis: 1 });
    const axis = w.constant(fromNumbers('i64', [], [1]));
    const sums = w.reshape(w.node('CumSum', [probabilities, axis]), [batch, 1, classes]);
    const drawn = w.node('RandomUniform', [], { seed, shape: [batch, samples, 1], dtype: 'f32' });
    const passed = w.cast(w.node('Greater', [drawn, sums]), 'i32');
    const counted = w.node('ReduceSum', [passed, w.ints([2])], { keepdims: false });
    return [w.cast(w.node('Min', [counted, w.scalar('i32', classes - 1)]), dtype)];
  },
  cases: [
    { name: 'samples', attrs: { sample_size: 9, seed: 4 }, inputs: [{ dtype: 'f32', shape: [3, 5] }] },
    { name: 'i64', attrs: { seed: 0, dtype: 'i64' }, inputs: [{ dtype: 'f32', shape: [2, 3] }] },
  ],
});

export const RANDOM_OPS: readonly Op[] = [
  randomNormal,
  randomNormalLike,
  randomUniform,
  randomUniformLike,
  bernoulli,
  multinomial,
];
