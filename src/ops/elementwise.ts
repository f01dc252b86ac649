/**
 * Elementwise operators: out[c] = expr(in0[c], in1[c], …) with NumPy broadcasting.
 *
 * One expression is both the lowering and the definition: eval compiles it and walks it over the broadcast inputs, in float64 or
 * exact integers, rounding once on output. An operator is a row: which dtypes, which expression, which attributes.
 */
import {
  DTYPES,
  type DType,
  isBigInt,
  isSmallFloat,
  isSmallInt,
  type Scalar,
  type SmallFloat,
  type SmallInt,
} from '../core/dtype.ts';
import { broadcastShapes, elements, printShape, rowMajorStrides, type Shape, type StaticShape } from '../core/shape.ts';
import { encodeScalar, type Tensor, type TensorType, toNumbers, type ValueType } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { compileExpr, type EvalEnv } from '../loop/eval.ts';
import { local } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { type AttrSpecs, type AttrsOf, defineOp, type Op, type OpDef } from './op.ts';

export const FLOATS = ['f32', 'f64', 'f16', 'bf16'] as const;
export const SIGNED = ['i32', 'i64', 'i16', 'i8'] as const;
export const UNSIGNED = ['u8', 'u16', 'u32', 'u64'] as const;
export const INTEGERS = [...SIGNED, ...UNSIGNED] as const;
export const NUMERIC = [...FLOATS, ...INTEGERS] as const;
export const ANY = [...NUMERIC, 'bool'] as const;
/** Dtypes that only conversions know, and operators that move elements. */
export const SMALL_FLOATS = Object.keys(DTYPES).filter((d) => isSmallFloat(d as DType)) as SmallFloat[];
export const SMALL_INTS = Object.keys(DTYPES).filter((d) => isSmallInt(d as DType)) as SmallInt[];
export const SMALL: readonly DType[] = [...SMALL_FLOATS, ...SMALL_INTS];

export interface ElementwiseDef<S extends AttrSpecs>
  extends Pick<
    OpDef<S>,
    'name' | 'onnx' | 'attrs' | 'inputs' | 'traits' | 'cases' | 'inferDims' | 'identity' | 'channelAffine' | 'clips'
  > {
  /** Element types that input i may have. */
  readonly accepts: (i: number) => readonly DType[];
  /** Inputs that share input 0's dtype; all of them where not given. */
  readonly shares?: (i: number) => boolean;
  /** The output's dtype; input 0's where not given. */
  readonly result?: (args: readonly DType[], attrs: AttrsOf<S>) => DType;
  /** The output's shape; the broadcast of the inputs' where not given. */
  readonly shape?: (ctx: InferContext<AttrsOf<S>>) => Shape;
  expr(args: readonly Expr[], attrs: AttrsOf<S>, out: DType): Expr;
}

/** Makes an operator from its expression. */
export function defineElementwise<S extends AttrSpecs>(def: ElementwiseDef<S>): Op {
  const { name, onnx, attrs, inputs, traits, cases, inferDims, identity, channelAffine, clips } = def;
  const shares = def.shares ?? (() => true);
  return defineOp<S>({
    name,
    onnx,
    attrs,
    inputs,
    cases,
    ...(traits && { traits }),
    ...(inferDims && { inferDims }),
    ...(identity && { identity }),
    ...(channelAffine && { channelAffine }),
    ...(clips && { clips }),
    infer(ctx) {
      const types = ctx.inputs.map((_, i) => ctx.input(i));
      types.forEach((type, i) => {
        const accepted = def.accepts(i);
        if (!accepted.includes(type.dtype)) {
          ctx.fail(`input ${i} is ${type.dtype}, expected one of ${accepted.join(', ')}`);
        }
        const first = types.findIndex((_, j) => shares(j));
        if (shares(i) && type.dtype !== types[first].dtype) {
          ctx.fail(`inputs ${first} and ${i} must have one element type`);
        }
      });
      const dtypes = types.map((t) => t.dtype);
      return [
        { dtype: def.result?.(dtypes, ctx.attrs) ?? dtypes[0], shape: def.shape?.(ctx) ?? broadcastAll(ctx, types) },
      ];
    },
    eval: (args, settings, [out]) => [evalElementwise(def.expr, args as readonly Tensor[], settings, out)],
    lower: { kind: 'elementwise', expr: def.expr },
  });
}

/** NumPy's broadcast of all the types' shapes. Throws through ctx.fail where they do not fit. */
export const broadcastAll = (ctx: Pick<InferContext, 'fail'>, types: readonly ValueType[]): Shape =>
  types
    .map((t) => t.shape)
    .reduce(
      (a, b) =>
        broadcastShapes(a, b) ?? ctx.fail(`${types.map((t) => printShape(t.shape)).join(' and ')} do not broadcast`),
    );

/** out[c] = expr(inputs[c]…) over the broadcast inputs. */
export function evalElementwise<A>(
  expr: (args: readonly Expr[], attrs: A, out: DType) => Expr,
  inputs: readonly Tensor[],
  attrs: A,
  out: TensorType,
): Tensor {
  const names = inputs.map((_, i) => `in${i}`);
  const args = inputs.map((t, i) => local(names[i], t.dtype));
  const values: Scalar[] = new Array(inputs.length).fill(0);
  const evaluate = compileExpr(expr(args, attrs, out.dtype), scalarEnv(names, values));
  const sources = inputs.map((t) => (isBigInt(t.dtype) ? (t.data as BigInt64Array) : toNumbers(t)));
  const data = new DTYPES[out.dtype].array(elements(out.shape)) as Float64Array;
  const exact = !DTYPES[out.dtype].coded && out.dtype !== 'bool';
  walkBroadcast(
    out.shape,
    inputs.map((t) => t.shape),
    (i, at) => {
      for (let k = 0; k < at.length; k++) values[k] = sources[k][at[k]];
      const value = evaluate();
      data[i] = (exact ? value : encodeScalar(out.dtype, value)) as number;
    },
  );
  return { dtype: out.dtype, shape: out.shape, data };
}

/** A function of one number, from the expression that it is. */
export function scalarFunction(dtype: DType, build: (x: Expr) => Expr): (x: Scalar) => Scalar {
  const values: Scalar[] = [0];
  const evaluate = compileExpr(build(local('x', dtype)), scalarEnv(['x'], values));
  return (x) => {
    values[0] = x;
    return evaluate();
  };
}

/** An environment without axes and buffers, whose locals are `values`. */
const scalarEnv = (names: readonly string[], values: Scalar[]): EvalEnv => ({
  buffers: new Map(),
  rounding: 'store',
  axes: [],
  locals: values,
  axisSlots: new Map(),
  localSlots: new Map(names.map((name, slot) => [name, slot])),
  evaluation: 0,
});

/** Calls visit(i, at) for each element i of `shape` in row-major order; at[k] is the element of shapes[k] broadcast to it. */
export function walkBroadcast(
  shape: StaticShape,
  shapes: readonly StaticShape[],
  visit: (i: number, at: Int32Array) => void,
): void {
  const rank = shape.length;
  const strides = shapes.map((s) => {
    const own = rowMajorStrides(s);
    return shape.map((_, d) => {
      const k = d - (rank - s.length);
      return k < 0 || s[k] === 1 ? 0 : own[k];
    });
  });
  const count = elements(shape);
  const at = new Int32Array(shapes.length);
  const coords = new Int32Array(rank);
  for (let i = 0; i < count; i++) {
    visit(i, at);
    for (let d = rank - 1; d >= 0; d--) {
      coords[d]++;
      for (let k = 0; k < at.length; k++) at[k] += strides[k][d];
      if (coords[d] < shape[d]) break;
      for (let k = 0; k < at.length; k++) at[k] -= strides[k][d] * shape[d];
      coords[d] = 0;
    }
  }
}
