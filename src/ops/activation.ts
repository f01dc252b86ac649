/**
 * Activations: elementwise functions of one input, most with parameters.
 *
 * Forms are chosen for float32 range: an exponential's argument is never positive where its result would be multiplied or divided
 * by an infinity, so that no NaN arises for large inputs.
 */
import { type DType, isFloat } from '../core/dtype.ts';
import { add, binary, cast, div, like, max, min, mul, select, sub, unary } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { defineElementwise, FLOATS, NUMERIC } from './elementwise.ts';
import { type AttrSpecs, type AttrsOf, float, type Op, type OpCase, oneOf } from './op.ts';
import { sigmoid, unaryCases } from './unary.ts';

/** An activation; `settings` are attributes to test beside the defaults. */
function activation<S extends AttrSpecs>(
  name: string,
  since: number,
  attrs: S,
  expr: (x: Expr, attrs: AttrsOf<S>) => Expr,
  settings: readonly OpCase['attrs'][] = [],
  dtypes: readonly DType[] = FLOATS,
): Op {
  return defineElementwise<S>({
    name,
    onnx: { since },
    attrs,
    inputs: [1, 1],
    accepts: () => dtypes,
    expr: ([x], values) => expr(x, values),
    cases: [
      ...unaryCases(dtypes),
      { name: 'far from 0', inputs: [{ dtype: 'f32', shape: [31], range: [-200, 200] }] },
      ...settings.map(
        (s): OpCase => ({
          name: JSON.stringify(s),
          attrs: s!,
          inputs: [{ dtype: 'f32', shape: [2, 29], range: [-4, 4] }],
        }),
      ),
    ],
  });
}

const isNegative = (x: Expr): Expr => binary('lt', x, like(x, 0));
const exp = (x: Expr): Expr => unary('exp', x);
const clamp01 = (x: Expr): Expr => max(like(x, 0), min(like(x, 1), x));

/** ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|) */
const softplus = (x: Expr): Expr =>
  add(max(x, like(x, 0)), unary('log', add(like(x, 1), exp(unary('neg', unary('abs', x))))));

/** alpha·(e^min(x, 0) - 1) */
const expMinus1 = (x: Expr, alpha: number): Expr => mul(like(x, alpha), sub(exp(min(x, like(x, 0))), like(x, 1)));

/** x/2 · (1 + erf(x/√2)) */
const gelu = (x: Expr): Expr => mul(mul(like(x, 0.5), x), add(like(x, 1), unary('erf', mul(x, like(x, Math.SQRT1_2)))));

/** x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))) */
function geluTanh(x: Expr): Expr {
  const cubic = add(x, mul(like(x, 0.044715), mul(mul(x, x), x)));
  return mul(mul(like(x, 0.5), x), add(like(x, 1), unary('tanh', mul(like(x, Math.sqrt(2 / Math.PI)), cubic))));
}

/** x + bias below -lambd, x - bias above lambd, 0 between. */
const shrink = (x: Expr, lambd: number, bias: number): Expr =>
  select(
    binary('lt', x, like(x, -lambd)),
    add(x, like(x, bias)),
    select(binary('gt', x, like(x, lambd)), sub(x, like(x, bias)), like(x, 0)),
  );

export const ACTIVATION_OPS: readonly Op[] = [
  activation(
    'HardSigmoid',
    6,
    { alpha: float(0.2), beta: float(0.5) },
    (x, { alpha, beta }) => clamp01(add(mul(like(x, alpha), x), like(x, beta))),
    [{ alpha: 0.75, beta: -0.25 }],
  ),
  activation('HardSwish', 14, {}, (x) => mul(x, clamp01(add(mul(x, like(x, 1 / 6)), like(x, 0.5))))),
  activation(
    'LeakyRelu',
    6,
    { alpha: float(0.01) },
    (x, { alpha }) => select(isNegative(x), mul(like(x, alpha), x), x),
    [{ alpha: 0.5 }, { alpha: -2 }],
  ),
  activation('Elu', 6, { alpha: float(1) }, (x, { alpha }) => select(isNegative(x), expMinus1(x, alpha), x), [
    { alpha: 2.5 },
  ]),
  activation(
    'Selu',
    6,
    { alpha: float(1.6732632), gamma: float(1.050701) },
    (x, { alpha, gamma }) => mul(like(x, gamma), select(isNegative(x), expMinus1(x, alpha), x)),
    [{ alpha: 0.5, gamma: 3 }],
  ),
  activation(
    'Celu',
    12,
    { alpha: float(1) },
    (x, { alpha }) => add(max(x, like(x, 0)), expMinus1(div(x, like(x, alpha)), alpha)),
    [{ alpha: 0.5 }, { alpha: 3 }],
  ),
  activation(
    'ThresholdedRelu',
    10,
    { alpha: float(1) },
    (x, { alpha }) => select(binary('gt', x, like(x, alpha)), x, like(x, 0)),
    [{ alpha: -0.5 }],
  ),
  activation('Softplus', 1, {}, softplus),
  activation('Softsign', 1, {}, (x) => div(x, add(like(x, 1), unary('abs', x)))),
  activation('Mish', 18, {}, (x) => mul(x, unary('tanh', softplus(x)))),
  activation(
    'Gelu',
    20,
    { approximate: oneOf('none', 'tanh') },
    (x, { approximate }) => (approximate === 'tanh' ? geluTanh(x) : gelu(x)),
    [{ approximate: 'tanh' }, { approximate: 'none' }],
  ),
  activation('Swish', 24, { alpha: float(1) }, (x, { alpha }) => mul(x, sigmoid(mul(like(x, alpha), x))), [
    { alpha: 1.75 },
  ]),
  activation(
    'Shrink',
    9,
    { lambd: float(0.5), bias: float(0) },
    (x, { lambd, bias }) =>
      isFloat(x.dtype) ? shrink(x, lambd, bias) : cast(x.dtype, shrink(cast('f64', x), lambd, bias)),
    [{ lambd: 1.5, bias: 0.75 }],
    NUMERIC.filter((d) => d !== 'bf16'),
  ),
];
