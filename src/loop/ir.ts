/**
 * The loop IR: how the elements of one kernel's outputs are computed, in scalars and loops.
 *
 * A kernel has buffers (flat, typed, indexed in elements), parallel axes (its index space: any order, any thread) and a body run
 * once a point of that space. A value is an Expr; fusion is an Expr inside another kernel's Expr. Integers wrap; floats are
 * float64 in eval and rounded when stored; machines may use the buffer's precision throughout.
 *
 *     kernel map_f32 = map (in x: f32[128], out y: f32[128]) for i < 128 {
 *       y[i] = max(x[i], 0)
 *     }
 *
 * Form says what kind of computation it is and carries what a template needs to know; `contract` and `attend` also imply the body,
 * which their constructors derive, so form and body cannot disagree (verify checks).
 */
import type { DType, Scalar } from '../core/dtype.ts';

const UNARY = [
  'neg',
  'abs',
  'sqrt',
  'floor',
  'ceil',
  'round',
  'trunc',
  'sign',
  'not',
  'exp',
  'log',
  'erf',
  'tanh',
  'sin',
  'cos',
  'tan',
  'asin',
  'acos',
  'atan',
  'sinh',
  'cosh',
  'asinh',
  'acosh',
  'atanh',
  'isnan',
  'isinf',
  'bitnot',
] as const;
export type UnaryOp = (typeof UNARY)[number];
export const UNARY_OPS: ReadonlySet<UnaryOp> = new Set(UNARY);

const BINARY = [
  'add',
  'sub',
  'mul',
  'div',
  'floordiv',
  'mod',
  'rem',
  'pow',
  'min',
  'max',
  'eq',
  'ne',
  'lt',
  'le',
  'gt',
  'ge',
  'and',
  'or',
  'xor',
  'bitand',
  'bitor',
  'bitxor',
  'shl',
  'shr',
] as const;
export type BinaryOp = (typeof BINARY)[number];
export const BINARY_OPS: ReadonlySet<BinaryOp> = new Set(BINARY);

/**
 * dtype is that of the result. Comparisons, and/or/xor/not, isnan, isinf give bool. div on integers truncates toward zero;
 * floordiv and mod round toward minus infinity (mod has the divisor's sign, rem the dividend's). min and max propagate NaN.
 * round is to nearest, ties to even. Integer division by zero is 0 in eval; a machine may stop the run instead.
 */
export type Expr =
  | { readonly kind: 'const'; readonly dtype: DType; readonly value: Scalar }
  /** A loop index; i32. */
  | { readonly kind: 'axis'; readonly dtype: 'i32'; readonly name: string }
  /** A local set by `let` or `reduce`. */
  | { readonly kind: 'local'; readonly dtype: DType; readonly name: string }
  | { readonly kind: 'load'; readonly dtype: DType; readonly buffer: string; readonly index: Expr }
  | { readonly kind: 'unary'; readonly dtype: DType; readonly op: UnaryOp; readonly x: Expr }
  | { readonly kind: 'binary'; readonly dtype: DType; readonly op: BinaryOp; readonly a: Expr; readonly b: Expr }
  /** Lazy: the branch not taken is not evaluated, so it may hold a load out of range. */
  | { readonly kind: 'select'; readonly dtype: DType; readonly cond: Expr; readonly a: Expr; readonly b: Expr }
  /**
   * Value-preserving where it can be: float to int truncates and saturates, int to int wraps, to bool is `!= 0`, to floats of 8 bits and
   * fewer saturates (those dtypes leave kernels in encode-small.ts).
   */
  | { readonly kind: 'cast'; readonly dtype: DType; readonly x: Expr }
  /** Same bits, same width: f32 and i32, f64 and i64. */
  | { readonly kind: 'bitcast'; readonly dtype: DType; readonly x: Expr };

export type ReduceOp = 'add' | 'mul' | 'min' | 'max';

/**
 * Runs over [0, extent), or over [0, min(extent, limit)) where there is a limit: a size that only running tells, the same for all
 * points. A limit is i32, made of constants and of in buffers' elements at constant indices (a table of sizes). Whatever is proved
 * of a kernel is proved of the whole extent.
 */
export interface Axis {
  readonly name: string;
  readonly extent: number;
  readonly limit?: Expr;
}

export type Stmt =
  /** Iterations are independent of each other and may run in any order or in lanes. */
  | { readonly kind: 'for'; readonly axis: Axis; readonly body: readonly Stmt[] }
  /**
   * local := op over all axes of value. Order is free (lanes, blocks): float results may differ in rounding.
   * Zero iterations give the identity (0, 1, +inf, -inf; the type's limits for integers).
   */
  | {
      readonly kind: 'reduce';
      readonly local: string;
      readonly dtype: DType;
      readonly op: ReduceOp;
      readonly axes: readonly Axis[];
      readonly value: Expr;
    }
  /** First and later assignments alike; a local lives until the end of the parallel point. */
  | { readonly kind: 'let'; readonly local: string; readonly dtype: DType; readonly value: Expr }
  /**
   * In order, each iteration after the one before; the only loop that may carry locals from one iteration to the next. Before each it asks
   * for `while`, where there is one, and ends where that is false.
   */
  | { readonly kind: 'scan'; readonly axis: Axis; readonly while?: Expr; readonly body: readonly Stmt[] }
  | { readonly kind: 'if'; readonly cond: Expr; readonly body: readonly Stmt[] }
  | { readonly kind: 'store'; readonly buffer: string; readonly index: Expr; readonly value: Expr };

/** sum of coef·axis, plus constant. */
export interface Affine {
  readonly terms: readonly { readonly axis: string; readonly coef: number }[];
  readonly constant: number;
}

/** One coordinate of an operand: its position as a function of the axes, its extent and its stride in elements. */
export interface AccessDim {
  readonly at: Affine;
  readonly extent: number;
  /** As an axis's: where `at` is padded, positions from the limit on are outside too. */
  readonly limit?: Expr;
  readonly stride: number;
  /** True where `at` may leave [0, extent); the element read there is 0. */
  readonly padded: boolean;
}
export interface Access {
  readonly buffer: string;
  readonly dims: readonly AccessDim[];
}

/**
 * out[batch.., m.., n..] = epilogue(sum over k.. of a · b). Matmul and every convolution: the window is in a's AccessDims.
 * batch axes are in both operands, m only in a, n only in b, k is summed. Depthwise: the channel is a batch axis.
 */
export interface Contract {
  readonly kind: 'contract';
  readonly axes: readonly (Axis & { readonly role: 'batch' | 'm' | 'n' | 'k' })[];
  readonly a: Access;
  readonly b: Access;
  /** Accumulator: f32 for floats of up to 32 bits, f64, or i32. The sum is local `acc`. */
  readonly acc: DType;
  /** What follows the sum: stores (and lets) that may read local `acc` and the batch, m and n axes. */
  readonly epilogue: readonly Stmt[];
}

/**
 * out[batch.., query.., value] = epilogue(Σ over key of weight · v), weight = softmax over key of score(Σ over inner of q · k).
 *
 * q moves with batch, query and inner axes, k with batch, key and inner, v with batch, key and value; where an operand does not move
 * with a batch axis its heads are shared. There is one key axis. No dim is padded.
 */
export interface Attend {
  readonly kind: 'attend';
  readonly axes: readonly (Axis & { readonly role: 'batch' | 'query' | 'key' | 'inner' | 'value' })[];
  readonly q: Access;
  readonly k: Access;
  readonly v: Access;
  /** What it is computed in. */
  readonly acc: 'f32' | 'f64';
  /** Lets that read local `dot`, the product of a query and a key, and axes batch, query and key; they set local `score`. */
  readonly score: readonly Stmt[];
  /** What a row gives whose weights are no numbers (all keys masked, a score NaN or +inf): NaN, or 0. */
  readonly empty: 'nan' | 'zero';
  /** What follows: stores (and lets) that may read local `acc` and the batch, query and value axes. */
  readonly epilogue: readonly Stmt[];
}

export type Form =
  /** One independent value a point. */
  | { readonly kind: 'map' }
  /** As map, where the value is a load moved unchanged (transpose, slice, pad, gather). */
  | { readonly kind: 'move' }
  /** Each point folds a row: sums, softmax, norms, pooling. */
  | { readonly kind: 'reduce' }
  | Contract
  | Attend
  /**
   * Sequential algorithms: sort, top-k, scatter with a reduction. Alone among the forms it may load from an out buffer, where the same
   * point stored before.
   */
  | { readonly kind: 'routine'; readonly name: string };

export interface Buffer {
  readonly name: string;
  readonly dtype: DType;
  readonly elements: number;
  readonly role: 'in' | 'out';
}

export interface Kernel {
  /** `form_dtypes_shape` by the naming grammar; not an identity. */
  readonly name: string;
  readonly form: Form;
  readonly buffers: readonly Buffer[];
  /** The index space, outermost first; for a contract batch, m and n in the order of the output's layout. */
  readonly axes: readonly Axis[];
  readonly body: readonly Stmt[];
}
