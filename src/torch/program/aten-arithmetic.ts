/**
 * Element by element: functions of one tensor, arithmetic and comparisons of two, choices, and Python's arithmetic on sizes.
 *
 * PyTorch computes in the dtype it promotes to, which is that of the output where there is arithmetic; ONNX wants operands of one dtype.
 */
import { isFloat } from '../../core/dtype.ts';
import type { Translation, TranslationTable } from './aten.ts';
import type { Call, Result, Size } from './call.ts';

/** The argument in the output's dtype: PyTorch takes integers to float where a function needs it. */
const self = (c: Call): string => c.cast(c.tensor('self'), c.outputType().dtype);

const unary =
  (op: string): Translation =>
  (c) =>
    c.node(op, [self(c)]);

const binary =
  (op: string): Translation =>
  (c) => {
    const { dtype } = c.outputType();
    return c.node(op, [c.operand('self', dtype), c.operand('other', dtype)]);
  };

const comparison =
  (op: string, negate = false): Translation =>
  (c) => {
    const dtype = c.promoted('self', 'other');
    const result = c.node(op, [c.operand('self', dtype), c.operand('other', dtype)]);
    return negate ? c.node('Not', [result]) : result;
  };

const logical =
  (op: string): Translation =>
  (c) =>
    c.node(op, [c.operand('self', 'bool'), c.operand('other', 'bool')]);

/** The logical operator on bools, the bitwise one on integers. */
const bitwise =
  (onBools: string, onIntegers: string): Translation =>
  (c) => {
    const { dtype } = c.outputType();
    return c.node(dtype === 'bool' ? onBools : onIntegers, [c.operand('self', dtype), c.operand('other', dtype)]);
  };

/** self ± alpha · other */
const sum =
  (op: 'Add' | 'Sub'): Translation =>
  (c) => {
    const { dtype } = c.outputType();
    const alpha = c.number('alpha', 1);
    const other = c.operand('other', dtype);
    return c.node(op, [c.operand('self', dtype), alpha === 1 ? other : c.node('Mul', [other, c.scalar(alpha, dtype)])]);
  };

function divide(c: Call): string {
  const { dtype } = c.outputType();
  const mode = c.text('rounding_mode', '');
  const a = c.operand('self', dtype);
  const b = c.operand('other', dtype);
  if (mode === '') return c.node('Div', [a, b]);
  if (isFloat(dtype)) return roundToZeroOrDown(c, c.node('Div', [a, b]), mode);
  // ONNX divides integers toward zero; where the remainder has another sign than the divisor, the floor is one less.
  const quotient = c.node('Div', [a, b]);
  if (mode === 'trunc') return quotient;
  const remainder = c.node('Sub', [a, c.node('Mul', [quotient, b])]);
  const zero = c.scalar(0, dtype);
  const isInexact = c.node('Not', [c.node('Equal', [remainder, zero])]);
  const differs = c.node('Xor', [c.node('Less', [remainder, zero]), c.node('Less', [b, zero])]);
  return c.node('Sub', [quotient, c.cast(c.node('And', [isInexact, differs]), dtype)]);
}

function roundToZeroOrDown(c: Call, x: string, mode: string): string {
  if (mode === 'floor') return c.node('Floor', [x]);
  return truncate(c, x);
}

/** sign(x) · floor(|x|) */
const truncate = (c: Call, x: string): string =>
  c.node('Mul', [c.node('Sign', [x]), c.node('Floor', [c.node('Abs', [x])])]);

function clamp(c: Call, low: string | undefined, high: string | undefined): string {
  const { dtype } = c.outputType();
  let x = c.operand('self', dtype);
  // Max and Min, not Clip: bounds may be tensors.
  if (low !== undefined) x = c.node('Max', [x, low]);
  if (high !== undefined) x = c.node('Min', [x, high]);
  return x;
}

function power(c: Call): string {
  const { dtype } = c.outputType();
  const exponent = c.isTensor('exponent') ? undefined : c.number('exponent');
  const base = c.operand('self', dtype);
  if (exponent === 2) return c.node('Mul', [base, base]);
  if (exponent === 0.5) return c.node('Sqrt', [base]);
  return c.node('Pow', [base, c.operand('exponent', dtype)]);
}

/** x where |x · beta| is beyond the threshold, else ln(1 + exp(x · beta)) / beta. */
function softplus(c: Call): string {
  const { dtype } = c.outputType();
  const x = self(c);
  const beta = c.number('beta', 1);
  const scaled = beta === 1 ? x : c.node('Mul', [x, c.scalar(beta, dtype)]);
  const soft = c.node('Softplus', [scaled]);
  const value = beta === 1 ? soft : c.node('Div', [soft, c.scalar(beta, dtype)]);
  return c.node('Where', [c.node('Greater', [scaled, c.scalar(c.number('threshold', 20), dtype)]), x, value]);
}

/** ELU with a factor on the input's side and one on the whole: scale · (x > 0 ? x : alpha · (exp(input_scale · x) − 1)). */
function elu(c: Call): string {
  const alpha = c.number('alpha', 1);
  const scale = c.number('scale', 1);
  if (c.number('input_scale', 1) !== 1) c.fail('input_scale is not 1');
  if (scale === 1) return c.node('Elu', [self(c)], { alpha });
  return c.node('Mul', [c.node('Elu', [self(c)], { alpha }), c.scalar(scale, c.outputType().dtype)]);
}

function where(c: Call): string {
  const { dtype } = c.outputType();
  return c.node('Where', [c.operand('condition', 'bool'), c.operand('self', dtype), c.operand('other', dtype)]);
}

function maskedFill(c: Call): string {
  const { dtype } = c.outputType();
  return c.node('Where', [c.operand('mask', 'bool'), c.operand('value', dtype), c.operand('self', dtype)]);
}

/** self + value · (tensor1 op tensor2) */
const fused =
  (op: 'Mul' | 'Div'): Translation =>
  (c) => {
    const { dtype } = c.outputType();
    const value = c.number('value', 1);
    const product = c.node(op, [c.operand('tensor1', dtype), c.operand('tensor2', dtype)]);
    const scaled = value === 1 ? product : c.node('Mul', [product, c.scalar(value, dtype)]);
    return c.node('Add', [c.operand('self', dtype), scaled]);
  };

/** self + weight · (end − self) */
function lerp(c: Call): string {
  const { dtype } = c.outputType();
  const start = c.operand('self', dtype);
  const way = c.node('Sub', [c.operand('end', dtype), start]);
  return c.node('Add', [start, c.node('Mul', [way, c.operand('weight', dtype)])]);
}

function glu(c: Call): string {
  const x = self(c);
  const [value, gate] = c.nodes('Split', [x], 2, { axis: c.number('dim', -1), num_outputs: 2 });
  return c.node('Mul', [value, c.node('Sigmoid', [gate])]);
}

/** f(x) from nodes, in the output's dtype. */
const composed =
  (make: (c: Call, x: string, constant: (value: number) => string) => string): Translation =>
  (c) =>
    make(c, self(c), (value) => c.scalar(value, c.outputType().dtype));

/** Python's arithmetic on sizes. */
const onSizes =
  (op: string, compute: (a: number, b: number) => number): Translation =>
  (c): Result => {
    const [a, b] = [c.size('a'), c.size('b')];
    if (typeof a === 'number' && typeof b === 'number') return { size: compute(a, b) };
    return { size: { value: c.node(op, [c.vector([a]), c.vector([b])]) } };
  };

const sameSize: Translation = (c): Result => ({ size: c.size('a') satisfies Size });

export const ARITHMETIC: TranslationTable = {
  abs: unary('Abs'),
  neg: unary('Neg'),
  exp: unary('Exp'),
  log: unary('Log'),
  sqrt: unary('Sqrt'),
  sin: unary('Sin'),
  cos: unary('Cos'),
  tan: unary('Tan'),
  asin: unary('Asin'),
  acos: unary('Acos'),
  atan: unary('Atan'),
  sinh: unary('Sinh'),
  cosh: unary('Cosh'),
  asinh: unary('Asinh'),
  acosh: unary('Acosh'),
  atanh: unary('Atanh'),
  tanh: unary('Tanh'),
  erf: unary('Erf'),
  floor: unary('Floor'),
  ceil: unary('Ceil'),
  round: unary('Round'),
  sign: unary('Sign'),
  reciprocal: unary('Reciprocal'),
  sigmoid: unary('Sigmoid'),
  relu: unary('Relu'),
  selu: unary('Selu'),
  softsign: unary('Softsign'),
  mish: unary('Mish'),
  hardswish: unary('HardSwish'),
  elu,
  softplus,
  celu: (c) => c.node('Celu', [self(c)], { alpha: c.number('alpha', 1) }),
  gelu: (c) => c.node('Gelu', [self(c)], { approximate: c.text('approximate', 'none') }),
  leaky_relu: (c) => c.node('LeakyRelu', [self(c)], { alpha: c.number('negative_slope', 0.01) }),
  hardsigmoid: (c) => c.node('HardSigmoid', [self(c)], { alpha: 1 / 6, beta: 0.5 }),
  hardtanh: (c) => {
    const { dtype } = c.outputType();
    return c.node('Clip', [self(c), c.scalar(c.number('min_val', -1), dtype), c.scalar(c.number('max_val', 1), dtype)]);
  },
  relu6: composed((c, x, constant) => c.node('Clip', [x, constant(0), constant(6)])),
  silu: composed((c, x) => c.node('Mul', [x, c.node('Sigmoid', [x])])),
  log_sigmoid_forward: composed((c, x) => c.node('Neg', [c.node('Softplus', [c.node('Neg', [x])])])),
  log_sigmoid: composed((c, x) => c.node('Neg', [c.node('Softplus', [c.node('Neg', [x])])])),
  rsqrt: composed((c, x) => c.node('Reciprocal', [c.node('Sqrt', [x])])),
  square: composed((c, x) => c.node('Mul', [x, x])),
  exp2: composed((c, x, constant) => c.node('Exp', [c.node('Mul', [x, constant(Math.LN2)])])),
  expm1: composed((c, x, constant) => c.node('Sub', [c.node('Exp', [x]), constant(1)])),
  log1p: composed((c, x, constant) => c.node('Log', [c.node('Add', [x, constant(1)])])),
  log2: composed((c, x, constant) => c.node('Mul', [c.node('Log', [x]), constant(Math.LOG2E)])),
  log10: composed((c, x, constant) => c.node('Mul', [c.node('Log', [x]), constant(Math.LOG10E)])),
  trunc: composed(truncate),
  frac: composed((c, x) => c.node('Sub', [x, truncate(c, x)])),
  glu,
  threshold: (c) => {
    const { dtype } = c.outputType();
    const x = self(c);
    return c.node('Where', [c.node('Greater', [x, c.operand('threshold', dtype)]), x, c.operand('value', dtype)]);
  },
  softshrink: (c) => c.node('Shrink', [self(c)], { lambd: c.number('lambd', 0.5), bias: c.number('lambd', 0.5) }),
  hardshrink: (c) => c.node('Shrink', [self(c)], { lambd: c.number('lambd', 0.5), bias: 0 }),
  isfinite: (c) => {
    const x = c.tensor('self');
    return c.node('Not', [c.node('Or', [c.node('IsNaN', [x]), c.node('IsInf', [x])])]);
  },
  logical_not: (c) => c.node('Not', [c.operand('self', 'bool')]),
  bitwise_not: (c) => c.node(c.outputType().dtype === 'bool' ? 'Not' : 'BitwiseNot', [c.tensor('self')]),
  isnan: (c) => c.node('IsNaN', [c.tensor('self')]),
  isinf: (c) => c.node('IsInf', [c.tensor('self')]),

  add: sum('Add'),
  sub: sum('Sub'),
  rsub: (c) => {
    const { dtype } = c.outputType();
    const alpha = c.number('alpha', 1);
    const x = c.operand('self', dtype);
    return c.node('Sub', [c.operand('other', dtype), alpha === 1 ? x : c.node('Mul', [x, c.scalar(alpha, dtype)])]);
  },
  mul: binary('Mul'),
  multiply: binary('Mul'),
  div: divide,
  divide,
  true_divide: divide,
  floor_divide: (c) => {
    const { dtype } = c.outputType();
    return c.node('Floor', [c.node('Div', [c.operand('self', dtype), c.operand('other', dtype)])]);
  },
  fmod: (c) => {
    const { dtype } = c.outputType();
    return c.node('Mod', [c.operand('self', dtype), c.operand('other', dtype)], { fmod: true });
  },
  // The sign of the divisor: a − b · floor(a / b).
  remainder: (c) => {
    const { dtype } = c.outputType();
    const [a, b] = [c.operand('self', dtype), c.operand('other', dtype)];
    if (!isFloat(dtype)) return c.node('Mod', [a, b]);
    return c.node('Sub', [a, c.node('Mul', [b, c.node('Floor', [c.node('Div', [a, b])])])]);
  },
  pow: power,
  maximum: binary('Max'),
  minimum: binary('Min'),
  clamp: (c) => clamp(c, ...bounds(c)),
  clip: (c) => clamp(c, ...bounds(c)),
  clamp_min: (c) => clamp(c, c.operand('min', c.outputType().dtype), undefined),
  clamp_max: (c) => clamp(c, undefined, c.operand('max', c.outputType().dtype)),
  addcmul: fused('Mul'),
  addcdiv: fused('Div'),
  lerp,
  outer: (c) => {
    const { dtype } = c.outputType();
    return c.node('Mul', [c.node('Unsqueeze', [c.operand('self', dtype), c.ints([1])]), c.operand('vec2', dtype)]);
  },
  eq: comparison('Equal'),
  ne: comparison('Equal', true),
  lt: comparison('Less'),
  le: comparison('LessOrEqual'),
  gt: comparison('Greater'),
  ge: comparison('GreaterOrEqual'),
  logical_and: logical('And'),
  logical_or: logical('Or'),
  logical_xor: logical('Xor'),
  bitwise_and: bitwise('And', 'BitwiseAnd'),
  bitwise_or: bitwise('Or', 'BitwiseOr'),
  bitwise_xor: bitwise('Xor', 'BitwiseXor'),
  __and__: bitwise('And', 'BitwiseAnd'),
  __or__: bitwise('Or', 'BitwiseOr'),
  __xor__: bitwise('Xor', 'BitwiseXor'),
  where,
  masked_fill: maskedFill,

  '_operator.add': onSizes('Add', (a, b) => a + b),
  '_operator.sub': onSizes('Sub', (a, b) => a - b),
  '_operator.mul': onSizes('Mul', (a, b) => a * b),
  '_operator.floordiv': onSizes('Div', (a, b) => Math.floor(a / b)),
  '_operator.mod': onSizes('Mod', (a, b) => a - b * Math.floor(a / b)),
  'math.trunc': sameSize,
};

function bounds(c: Call): [string | undefined, string | undefined] {
  const { dtype } = c.outputType();
  return [c.has('min') ? c.operand('min', dtype) : undefined, c.has('max') ? c.operand('max', dtype) : undefined];
}
