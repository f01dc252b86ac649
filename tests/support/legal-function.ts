/** An expression of two numbers as CPUs without functions compute it, as a function: each operation rounded to the dtype. */
import type { DType } from '../../src/core/dtype.ts';
import { compileExpr, type EvalEnv } from '../../src/loop/eval.ts';
import { local } from '../../src/loop/expr.ts';
import type { Expr } from '../../src/loop/ir.ts';
import { COMMON_OPS, legalizeExpr } from '../../src/loop/legalize.ts';

export function legalFunction(dtype: DType, make: (x: Expr, y: Expr) => Expr): (x: number, y?: number) => number {
  const values = [0, 0];
  const env: EvalEnv = {
    buffers: new Map(),
    rounding: 'each',
    axes: [],
    locals: values,
    axisSlots: new Map(),
    localSlots: new Map([
      ['x', 0],
      ['y', 1],
    ]),
    evaluation: 0,
  };
  const thunk = compileExpr(legalizeExpr(make(local('x', dtype), local('y', dtype)), COMMON_OPS), env);
  return (x, y = 0) => {
    values[0] = x;
    values[1] = y;
    return thunk() as number;
  };
}
